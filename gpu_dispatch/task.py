"""The wire contract with a worker: what it is asked, what it reports, what it answers.

Frozen on both sides; pydantic checks it where bytes come in (`task_from_wire` and its siblings). Fields that the reader
does not know are left out, those that are missing have their defaults. Times are seconds unless a name ends in `_ms`;
sizes are bytes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, TypeVar

from pydantic import ConfigDict, Field, TypeAdapter

from manifests.errors import ErrorInfo
from manifests.options import AudioMix, ImageMotion, RecognitionOptions, VideoEncoding

T = TypeVar("T")

Capability = Literal["whisper", "nvenc"]
"""What a machine must be able to do: recognise speech, or encode video."""

State = Literal["queued", "running", "completed", "failed", "cancelled", "timed_out", "lost"]
FINAL: frozenset[State] = frozenset({"completed", "failed", "cancelled", "timed_out", "lost"})

SINGLE_PUT_BYTES = 5 * 2**30
"""S3's limit for one PUT."""


@dataclass(frozen=True, slots=True)
class TaskInput:
    """A file the worker fetches. `name` is the file's name in the job's private folder: fixed by us, never a user's.

    `url` is a presigned GET, an http(s) address, `data:` (bytes in the task), or `file:` below the folder store's root.
    """

    name: str
    url: str


@dataclass(frozen=True, slots=True)
class PartUrls:
    """Presigned addresses of one upload in parts, for a file that may be too large for one PUT.

    Part number n (from 1) goes to `parts[n - 1]`; every part but the last has `part_bytes` bytes. `complete` is a
    POST with the list of ETags. An upload that is not completed is ended by whoever made the addresses.
    """

    part_bytes: int
    parts: tuple[str, ...]
    complete: str


@dataclass(frozen=True, slots=True)
class TaskOutput:
    """A file the worker leaves. `url` is a presigned PUT, or `file:` inside the folder store's root.

    `in_parts` serves a file larger than one PUT may carry (`SINGLE_PUT_BYTES`); a smaller one goes to `url`.
    """

    name: str
    url: str
    content_type: str
    in_parts: PartUrls | None = None


@dataclass(frozen=True, slots=True)
class ClaimUrls:
    """Where the one job that may do a task writes who it is, before anything else.

    `put_url` is written with `If-None-Match: *`, so that only the first succeeds; `get_url` tells who that was.
    """

    put_url: str
    get_url: str


class TranscribeParams(RecognitionOptions, frozen=True):
    audio: str
    """Name of the input to listen to; its audio track when it is a video."""
    operation: Literal["transcribe"] = "transcribe"

    @property
    def capability(self) -> Capability:
        return "whisper"


@dataclass(frozen=True, slots=True)
class CaptionLayout:
    """One finished ASS document, written for a picture of `width` x `height`."""

    width: int
    height: int
    ass: str


class CaptionParams(VideoEncoding, frozen=True):
    """Burn the layout nearest to the video's shape; with `soft_srt`, add a subtitle track and copy the rest."""

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
    """Name of the file to leave."""
    frames: int


class Img2VidParams(VideoEncoding, ImageMotion, frozen=True):
    clips: tuple[Clip, ...]
    operation: Literal["img2vid"] = "img2vid"

    @property
    def capability(self) -> Capability:
        return "nvenc"


class AddAudioParams(VideoEncoding, AudioMix, frozen=True):
    """On the wire the option `offset` is called `offset_s`."""

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
    """One job for one worker. `task_id` is the same on every attempt; outputs go to the same places."""

    task_id: str
    params: TaskParams
    inputs: tuple[TaskInput, ...]
    outputs: tuple[TaskOutput, ...] = ()
    timeout_s: float = 3600.0
    """The worker gives up by itself after this long."""
    max_input_bytes: int = MAX_INPUT_BYTES
    """All inputs together."""
    trusted_hosts: tuple[str, ...] = ()
    """host or host:port that may be private: the store's own endpoint. Every other private address is refused."""
    claim: ClaimUrls | None = None
    """None: whoever is given the task does it. The same on every job that is sent for one attempt."""
    answer_url: str | None = None
    """Presigned PUT: the worker leaves its answer (`result_to_wire`, as JSON) here too, where it outlives the queue."""
    answer_get_url: str | None = None
    """Presigned GET of what lies at `answer_url`: a job that was done before is answered from there."""
    stored_at: str | None = None
    """Presigned GET of this task as JSON, for a queue that takes no request of its size; sealed with `secret`."""
    secret: str = field(default="", repr=False)
    """The attempt's key (`gpu_dispatch.signatures`), in hexadecimal digits: claim and answer are signed with it."""
    share: str = ""
    """BUCKET/FOLDER of the drop, for a backend that keeps a queue of its own: folders take turns in it."""
    short: bool = False
    """Whether its inputs are so small that it should soon be done."""
    max_output_bytes: int = 0
    """Of any output, should its inputs allow more (`gpu_dispatch.output_sizes`); 0: what they allow."""


@dataclass(frozen=True, slots=True)
class Word:
    """`text` carries its own leading space where the language has one, as Whisper gives it."""

    text: str
    start: float
    end: float
    probability: float = 1.0


@dataclass(frozen=True, slots=True)
class Segment:
    id: int
    start: float
    end: float
    text: str
    words: tuple[Word, ...] = ()
    seek: int = 0
    tokens: tuple[int, ...] = ()
    temperature: float = 0.0
    avg_logprob: float = 0.0
    compression_ratio: float = 0.0
    no_speech_prob: float = 0.0


@dataclass(frozen=True, slots=True)
class Transcript:
    language: str
    language_probability: float
    duration: float
    segments: tuple[Segment, ...]
    model: str
    engine: str
    device: str
    kind: Literal["transcript"] = "transcript"

    @property
    def text(self) -> str:
        return "".join(s.text for s in self.segments).strip()

    @property
    def words(self) -> tuple[Word, ...]:
        return tuple(w for s in self.segments for w in s.words)


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
    """h264_nvenc, libx264, or copy when no frame was encoded."""
    kind: Literal["videos"] = "videos"


@dataclass(frozen=True, slots=True)
class PackedTranscript:
    """A large `Transcript` as it lies in memory and in records: its JSON, compressed, in base64. See `packed.py`.

    `size` is that of the JSON, in bytes. Made on this machine only: a worker elsewhere is not believed one.
    """

    data: str
    size: int
    kind: Literal["packed_transcript"] = "packed_transcript"


Payload = Annotated[Transcript | PackedTranscript | Videos, Field(discriminator="kind")]


@dataclass(frozen=True, slots=True)
class Progress:
    """`percent` 0-100 of the task; `stage` a word such as download, load, transcribe, encode, upload."""

    percent: float
    stage: str


@dataclass(frozen=True, slots=True)
class GpuResult:
    """What came of a task: a payload or an error, never both."""

    task_id: str
    payload: Payload | None = None
    error: ErrorInfo | None = None
    execution_ms: int = 0
    delay_ms: int = 0
    """Time in the queue before a worker took it."""
    device: str = "cpu"


UNCACHED = ConfigDict(cache_strings="none")
"""For JSON that may be large: the words that pydantic would keep for the next one hold the memory of all of it."""


def uncached(kind: type[T]) -> TypeAdapter[T | None]:
    """Reads `kind` or null. pydantic takes settings for no bare dataclass, only for what may be one."""
    optional: Any = kind | None
    return TypeAdapter(optional, config=UNCACHED)
