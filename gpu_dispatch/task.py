"""The wire contract with a worker: its tasks, its progress reports and its results.

pydantic checks it where bytes come in (`gpu_dispatch.wire`). Unknown fields are dropped, missing ones have their
defaults. Times are seconds unless a name ends in `_ms`; sizes are bytes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, TypeVar

from pydantic import ConfigDict, Field, TypeAdapter

from gpu_dispatch.transcript import Transcript
from manifests.errors import ErrorInfo
from manifests.options import AudioMix, ImageMotion, RecognitionOptions, SoundSource, VideoEncoding

T = TypeVar("T")

Capability = Literal["whisper", "nvenc"]
"""What a machine can do: recognise speech, or encode video."""

State = Literal["queued", "running", "completed", "failed", "cancelled", "timed_out", "lost"]
FINAL: frozenset[State] = frozenset({"completed", "failed", "cancelled", "timed_out", "lost"})

SINGLE_PUT_BYTES = 5 * 2**30
"""S3's limit for one PUT."""


@dataclass(frozen=True, slots=True)
class TaskInput:
    """A file the worker fetches."""

    name: str
    """The file's name in the job's private folder, never chosen by a user."""
    url: str
    """A presigned GET, an http(s) address, `data:` (bytes in the task), or `file:` below the folder store's root."""


@dataclass(frozen=True, slots=True)
class PartUrls:
    """Presigned addresses of a multipart upload. The listener ends an upload that is not completed."""

    part_bytes: int
    """Bytes of every part but the last."""
    parts: tuple[str, ...]
    """Part number n (from 1) goes to `parts[n - 1]`."""
    complete: str
    """Address of a POST with the list of ETags."""


@dataclass(frozen=True, slots=True)
class TaskOutput:
    """A file the worker uploads."""

    name: str
    url: str
    """A presigned PUT, or `file:` inside the folder store's root."""
    content_type: str
    in_parts: PartUrls | None = None
    """For a file larger than `SINGLE_PUT_BYTES`; a smaller one goes to `url`."""


@dataclass(frozen=True, slots=True)
class ClaimUrls:
    """The addresses of an attempt's claim, which a job writes before anything else."""

    put_url: str
    """Written with `If-None-Match: *`, so that only the first job succeeds."""
    get_url: str
    """Tells which job that was."""


class TranscribeParams(SoundSource, RecognitionOptions, frozen=True):
    audio: str
    """Name of the input to transcribe; of a video, its audio track."""
    script: tuple[str, ...] = ()
    """What is said, as its author writes it, in paragraphs or cues; a line end at a block's beginning is a blank line
    before it. (): unknown."""
    keep_script: bool = False
    """Whether words of the script that are not said keep a place, and nothing else is added: for cues."""
    operation: Literal["transcribe"] = "transcribe"

    @property
    def capability(self) -> Capability:
        return "whisper"


@dataclass(frozen=True, slots=True)
class CaptionLayout:
    """An ASS document for a picture of `width` x `height` pixels."""

    width: int
    height: int
    ass: str


class CaptionParams(VideoEncoding, frozen=True):
    """Burns the layout nearest to the video's shape; with `soft_srt`, adds a subtitle track and copies the rest."""

    video: str
    output: str
    layouts: tuple[CaptionLayout, ...] = ()
    soft_srt: str | None = None
    language: str | None = None
    """ISO 639 code of the soft track."""
    operation: Literal["caption"] = "caption"

    @property
    def capability(self) -> Capability:
        return "nvenc"


@dataclass(frozen=True, slots=True)
class Clip:
    image: str
    """Name of the input."""
    output: str
    """Name of the output."""
    frames: int


class Img2VidParams(VideoEncoding, ImageMotion, frozen=True):
    clips: tuple[Clip, ...]
    operation: Literal["img2vid"] = "img2vid"

    @property
    def capability(self) -> Capability:
        return "nvenc"


class AddAudioParams(VideoEncoding, AudioMix, frozen=True):
    """Adds an audio track to a video. On the wire the option `offset` is called `offset_s`."""

    model_config = ConfigDict(
        alias_generator=lambda name: "offset_s" if name == "offset" else name,
        validate_by_name=True,
        serialize_by_alias=True,
    )

    video: str
    audio: str
    output: str
    operation: Literal["addaudio"] = "addaudio"

    @property
    def capability(self) -> Capability:
        return "nvenc"


TaskParams = Annotated[
    TranscribeParams | CaptionParams | Img2VidParams | AddAudioParams, Field(discriminator="operation")
]


MAX_INPUT_BYTES = 20 * 2**30


@dataclass(frozen=True, slots=True)
class GpuTask:
    """One job for one worker."""

    task_id: str
    """The same on every attempt, as are the places of the outputs."""
    params: TaskParams
    inputs: tuple[TaskInput, ...]
    outputs: tuple[TaskOutput, ...] = ()
    timeout_s: float = 3600.0
    """The worker gives up by itself after so many seconds."""
    max_input_bytes: int = MAX_INPUT_BYTES
    """Limit of all inputs together."""
    trusted_hosts: tuple[str, ...] = ()
    """Each "host" or "host:port" that may have a private address, such as the store; all other ones are refused."""
    claim: ClaimUrls | None = None
    """The same on every job that is sent for one attempt; None: every job does the task."""
    answer_url: str | None = None
    """Presigned PUT for the worker's answer (`result_to_wire`, as JSON), which outlives the queue there."""
    answer_get_url: str | None = None
    """Presigned GET of the same object: a job that was done before is answered from it."""
    stored_at: str | None = None
    """Presigned GET of this task as JSON, sealed with `secret`, for a queue that takes no request of its size."""
    secret: str = field(default="", repr=False)
    """The attempt's key (`gpu_dispatch.signatures`) in hexadecimal digits, which signs claim and answer."""
    share: str = ""
    """BUCKET/FOLDER of the drop: folders take turns in a backend's own queue."""
    short: bool = False
    """Whether its inputs are so small that it should be done soon."""
    max_output_bytes: int = 0
    """Limit of every output whose inputs allow more (`gpu_dispatch.output_sizes`); 0: no such limit."""


@dataclass(frozen=True, slots=True)
class VideoFile:
    name: str
    size: int
    duration: float
    width: int
    height: int
    frames: int


@dataclass(frozen=True, slots=True)
class Videos:
    files: tuple[VideoFile, ...]
    encoder: str
    """One of h264_nvenc, libx264, and copy when no frame was encoded."""
    kind: Literal["videos"] = "videos"


@dataclass(frozen=True, slots=True)
class PackedTranscript:
    """A large `Transcript` in memory and in records (`gpu_dispatch.compression`); not accepted from a remote worker."""

    data: str
    """The transcript's JSON, compressed, in base64."""
    size: int
    """Bytes of the JSON."""
    kind: Literal["packed_transcript"] = "packed_transcript"


Payload = Annotated[Transcript | PackedTranscript | Videos, Field(discriminator="kind")]


@dataclass(frozen=True, slots=True)
class Progress:
    percent: float
    """Of the task, 0 to 100."""
    stage: str
    """One word, such as download, load, transcribe, encode, upload."""


@dataclass(frozen=True, slots=True)
class GpuResult:
    """The result of a task: a payload or an error, never both."""

    task_id: str
    payload: Payload | None = None
    error: ErrorInfo | None = None
    execution_ms: int = 0
    delay_ms: int = 0
    """Time in the queue before a worker took the task."""
    device: str = "cpu"


UNCACHED = ConfigDict(cache_strings="none")
"""For JSON that may be large: strings in pydantic's cache keep the memory of the whole document."""


def uncached(kind: type[T]) -> TypeAdapter[T | None]:
    """Returns a reader of `kind` or null: pydantic takes a config for the union, but not for a bare dataclass."""
    optional: Any = kind | None
    return TypeAdapter(optional, config=UNCACHED)
