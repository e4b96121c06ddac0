"""The five operations as a user may ask for them. References stay text here; `manifests.media` says what they mean."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints

MAX_IMAGES = 10_000
MAX_CLIP_SECONDS = 3600.0

SubtitleFormat = Literal["srt", "ass", "json", "vtt", "lrc", "txt"]
CaptionStyle = Literal["plain", "fill", "pop", "box"]
Engine = Literal["faster-whisper", "openai-whisper"]

Reference = Annotated[str, StringConstraints(min_length=1, max_length=2_000_000)]
"""A file: relative to the manifest, "/key" from the bucket's root, s3://bucket/key, https://…, or data:…;base64,…"""

ModelName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
Language = Annotated[str, StringConstraints(pattern=r"^[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8})*$")]


def _file_name(name: str) -> str:
    if "/" in name or "\\" in name or name in (".", "..") or any(ord(c) < 32 for c in name):
        raise ValueError("must be a file name without folders")
    return name if name.lower().endswith(".mp4") else name + ".mp4"


VideoName = Annotated[str, StringConstraints(min_length=1, max_length=200), AfterValidator(_file_name)]


def _one_or_many(value: Any) -> Any:
    return [value] if isinstance(value, str | int | float) and not isinstance(value, bool) else value


class _Model(BaseModel, frozen=True, extra="forbid"):
    model_config = ConfigDict(allow_inf_nan=False)


class Manifest(_Model, frozen=True):
    """What every operation takes. A model derived from it adds `operation`, a literal, and its own fields."""

    path: str | None = Field(
        default=None,
        description="Folder for the outputs, relative to the manifest, or from the bucket's root with a leading '/'."
        " Omitted: next to the input.",
    )
    callback_url: str | None = Field(
        default=None, pattern=r"^https?://", description="Told once, when the run has ended."
    )
    metadata: dict[str, Any] = Field(default_factory=dict, description="Anything; echoed in sidecars and callback.")


class Transcribe(Manifest, frozen=True):
    """Speech to text, subtitles and karaoke."""

    operation: Literal["transcribe"] = "transcribe"
    audio: Reference
    model: ModelName = Field(
        default="base",
        description="tiny, base, small, medium, large-v3, turbo, … or a folder of GPUDROP_MODEL_DIR.",
    )
    engine: Engine | None = None
    language: Language | None = Field(default=None, description="Omitted: detected.")
    translate: bool = Field(default=False, description="Translate into English.")
    formats: Annotated[tuple[SubtitleFormat, ...], BeforeValidator(_one_or_many)] = Field(
        default=("srt", "ass", "json"), min_length=1
    )
    naming: Literal["fixed", "media"] = Field(
        default="fixed",
        description="fixed: segments.srt, karaoke.ass, words.json; media: NAME.LANGUAGE.srt and so on.",
    )
    temperature: Annotated[tuple[Annotated[float, Field(ge=0, le=1)], ...], BeforeValidator(_one_or_many)] = Field(
        default=(0.0, 0.2, 0.4, 0.6, 0.8, 1.0), min_length=1, max_length=16
    )
    beam_size: int = Field(default=5, ge=1, le=32)
    best_of: int = Field(default=5, ge=1, le=32)
    patience: float = Field(default=1.0, gt=0, le=10)
    length_penalty: float | None = Field(default=None, ge=0, le=1)
    initial_prompt: str | None = Field(default=None, max_length=10_000)
    condition_on_previous_text: bool = False
    compression_ratio_threshold: float | None = 2.4
    logprob_threshold: float | None = -1.0
    no_speech_threshold: float | None = 0.6
    suppress_tokens: tuple[int, ...] = (-1,)
    vad: bool = Field(default=True, description="Skip what is not speech before recognising it.")
    word_timestamps: bool = True
    require_speech: bool = Field(default=False, description="Fail with no_speech when nothing is said.")


class Caption(Manifest, frozen=True):
    """Subtitles into a video: burnt in, or as a track of their own."""

    operation: Literal["caption"] = "caption"
    video: Reference
    srt: Reference = Field(description="Subtitles: SRT, VTT, ASS, or the words.json of a transcription.")
    output_filename: VideoName | None = Field(default=None, description="Omitted: NAME.captioned.mp4.")
    style: CaptionStyle = "plain"
    burn: bool = Field(default=True, description="false: a soft track that players switch on; the video is copied.")
    language: Language | None = Field(default=None, description="Of the soft track.")
    quality: int = Field(default=23, ge=0, le=51, description="Constant quality; lower is better.")


class Image(_Model, frozen=True):
    image: Reference
    duration: float = Field(gt=0, le=MAX_CLIP_SECONDS, description="Seconds.")
    id: str | None = Field(default=None, max_length=200)


class _Motion(_Model, frozen=True):
    fps: int = Field(default=24, ge=1, le=60)
    width: int = Field(default=1920, ge=64, le=3840, multiple_of=2)
    height: int = Field(default=1080, ge=64, le=3840, multiple_of=2)
    zoom_from: float = Field(default=1.0, ge=1, le=4)
    zoom_to: float = Field(default=1.324, ge=1, le=4)
    quality: int = Field(default=23, ge=0, le=51, description="Constant quality; lower is better.")


class Img2Vid(Manifest, _Motion, frozen=True):
    """Each image a clip with a slow zoom: video_1.mp4 … video_N.mp4."""

    operation: Literal["img2vid"] = "img2vid"
    images: tuple[Image, ...] = Field(min_length=1, max_length=MAX_IMAGES)


class AddAudio(Manifest, frozen=True):
    """A video's sound replaced by an audio file."""

    operation: Literal["addaudio"] = "addaudio"
    video: Reference
    audio: Reference
    output_filename: VideoName | None = Field(default=None, description="Omitted: NAME.mp4.")
    fit: Literal["shortest", "video", "audio"] = Field(default="shortest", description="Whose length the result has.")
    offset: float = Field(
        default=0.0,
        ge=-3600,
        le=3600,
        description="Seconds of delay before the audio; negative skips its start.",
    )
    quality: int = Field(default=23, ge=0, le=51, description="Used only when the video's codec cannot live in MP4.")


class Render(Manifest, _Motion, frozen=True):
    """Images, audio and captions into one finished video."""

    operation: Literal["render"] = "render"
    images: tuple[Image, ...] = Field(min_length=1, max_length=MAX_IMAGES)
    audio: Reference
    srt: Reference | None = None
    captions: Literal["none", "auto"] = "none"
    style: CaptionStyle = "plain"
    output_filename: VideoName | None = Field(default=None, description="Omitted: NAME.mp4.")


MODELS: dict[str, type[Manifest]] = {
    "transcribe": Transcribe,
    "caption": Caption,
    "img2vid": Img2Vid,
    "addaudio": AddAudio,
    "render": Render,
}
"""The operations of this project by name; a reader may know more."""
