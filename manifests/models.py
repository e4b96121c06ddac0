"""The operations as a user may ask for them. References stay text here; `manifests.media` says what they mean.

The descriptions are the users' reference: the JSON Schemas are made from them.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints

from manifests.hosts import parse_web_address

MAX_IMAGES = 10_000
MAX_CLIP_SECONDS = 3600.0

SubtitleFormat = Literal["srt", "ass", "json", "vtt", "lrc", "txt"]
CaptionStyle = Literal["plain", "fill", "pop", "box"]
Engine = Literal["faster-whisper", "openai-whisper"]


def _whole_number_as_text(value: Any) -> Any:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _decimal_comma(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("must be a number of seconds")
    return value.replace(",", ".", 1) if isinstance(value, str) and "." not in value else value


def _one_or_many(value: Any) -> Any:
    return [value] if isinstance(value, str | int | float) and not isinstance(value, bool) else value


def _tokens(value: Any) -> Any:
    """Whisper's own spelling too: "-1", "1,2", and nothing for none."""
    if isinstance(value, str):
        return [part for part in value.replace(" ", "").split(",") if part]
    return _one_or_many(value)


def _file_name(name: str) -> str:
    if "/" in name or "\\" in name or name in (".", "..") or any(ord(c) < 32 or ord(c) == 127 for c in name):
        raise ValueError("must be a file name without folders")
    full = name if name.lower().endswith(".mp4") else name + ".mp4"
    if len(full.encode("utf-8", "surrogatepass")) > 255:
        raise ValueError("is too long: 255 bytes are a file name's limit")
    return full


_AsText = BeforeValidator(_whole_number_as_text)

Reference = Annotated[str, StringConstraints(min_length=1, max_length=2_000_000), _AsText]
"""A file: relative to the manifest, "/key" from the bucket's root, s3://bucket/key, https://…, or data:…;base64,…"""

ModelName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
Language = Annotated[str, StringConstraints(pattern=r"^[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8})*$")]


def _usable_address(url: str) -> str:
    if parse_web_address(url) is None:
        raise ValueError("is no usable address: check its host and port")
    return url


VideoName = Annotated[str, StringConstraints(min_length=1, max_length=200), AfterValidator(_file_name), _AsText]

_Id = Annotated[str, StringConstraints(max_length=200)]
ImageId = Annotated[_Id, BeforeValidator(_whole_number_as_text, json_schema_input_type=_Id | int)]

_ClipLength = Annotated[float, Field(gt=0, le=MAX_CLIP_SECONDS)]
Seconds = Annotated[_ClipLength, BeforeValidator(_decimal_comma, json_schema_input_type=_ClipLength | str)]
"""Length of a clip; spreadsheets write it with a decimal comma."""

_Formats = Annotated[tuple[SubtitleFormat, ...], Field(min_length=1)]
Formats = Annotated[_Formats, BeforeValidator(_one_or_many, json_schema_input_type=SubtitleFormat | _Formats)]
_Temperature = Annotated[float, Field(ge=0, le=1)]
_Temperatures = Annotated[tuple[_Temperature, ...], Field(min_length=1, max_length=16)]
Temperatures = Annotated[
    _Temperatures, BeforeValidator(_one_or_many, json_schema_input_type=_Temperature | _Temperatures)
]
_TokenIds = Annotated[tuple[int, ...], Field(max_length=1000)]
TokenIds = Annotated[_TokenIds, BeforeValidator(_tokens, json_schema_input_type=_TokenIds | int | str)]


CallbackUrl = Annotated[
    str,
    StringConstraints(pattern=r"^[hH][tT][tT][pP][sS]?://[^\s]+$", max_length=2000),
    AfterValidator(_usable_address),
]


class _Model(BaseModel, frozen=True, extra="forbid"):
    model_config = ConfigDict(allow_inf_nan=False)


class Manifest(_Model, frozen=True):
    """What every operation takes. A model derived from it adds `operation`, a literal, and its own fields."""

    path: Annotated[str, StringConstraints(max_length=1024), _AsText] | None = Field(
        default=None,
        description="Folder for the outputs, relative to the manifest, or from the bucket's root with a leading '/'."
        " Omitted: next to the input.",
    )
    callback_url: CallbackUrl | None = Field(
        default=None,
        description="An http or https address that is told once, when the run has ended.",
    )
    metadata: dict[str, Any] = Field(
        default_factory=dict, description="Anything you like; echoed in the sidecars and the callback."
    )


def _reference(description: str) -> Any:
    ways = "relative to the manifest, from the bucket's root with a leading '/', s3://bucket/key or https://…"
    return Field(description=f"{description}: {ways}.")


def _quality(description: str = "Constant quality, 0 to 51; lower is better and larger.") -> Any:
    return Field(default=23, ge=0, le=51, description=description)


class Transcribe(Manifest, frozen=True):
    """Speech to text: subtitles, karaoke and word times."""

    operation: Literal["transcribe"] = Field(
        default="transcribe", description="Omitted: known from `audio` without `video` or `images`."
    )
    audio: Reference = _reference("The audio, or a video whose sound is used")
    model: ModelName = Field(
        default="base",
        description="Whisper model: tiny, base, small, medium, large-v3, turbo, … or a folder of GPUDROP_MODEL_DIR.",
    )
    engine: Engine | None = Field(default=None, description="Omitted: the one the machine has.")
    language: Language | None = Field(
        default=None, description="Language code such as pt, en or pt-BR. Omitted: detected."
    )
    translate: bool = Field(default=False, description="Translate into English.")
    formats: Formats = Field(default=("srt", "ass", "json"), description="Files to write; one, or a list.")
    naming: Literal["fixed", "media"] = Field(
        default="fixed",
        description="fixed: segments.srt, karaoke.ass, words.json; media: NAME.LANGUAGE.srt and so on.",
    )
    temperature: Temperatures = Field(
        default=(0.0, 0.2, 0.4, 0.6, 0.8, 1.0),
        description="0 to 1. A list is tried in order until a segment is good enough; one number: no second try.",
    )
    beam_size: int = Field(default=5, ge=1, le=32, description="Hypotheses kept at temperature 0.")
    best_of: int = Field(default=5, ge=1, le=32, description="Samples drawn at a temperature above 0.")
    patience: float = Field(default=1.0, gt=0, le=10, description="How long beam search goes on; 1 is usual.")
    length_penalty: float | None = Field(
        default=None, ge=0, le=1, description="Exponent of a hypothesis's length. Omitted: the engine's default."
    )
    initial_prompt: Annotated[str, StringConstraints(max_length=10_000), _AsText] | None = Field(
        default=None, description="Names and terms that occur, in a sentence or two."
    )
    condition_on_previous_text: bool = Field(
        default=False, description="Show the model what it recognised before; smoother, but errors can repeat."
    )
    compression_ratio_threshold: float | None = Field(
        default=2.4, description="A segment that compresses better than this repeats itself and is tried again."
    )
    logprob_threshold: float | None = Field(
        default=-1.0, description="A segment less probable than this on average is tried again."
    )
    no_speech_threshold: float | None = Field(
        default=0.6, description="Above this probability of silence an improbable segment is dropped."
    )
    suppress_tokens: TokenIds = Field(
        default=(-1,), description="Token ids never produced; -1: those the model suppresses by itself."
    )
    vad: bool = Field(default=True, description="Skip what is not speech before recognising it.")
    word_timestamps: bool = Field(default=True, description="Times of single words; karaoke needs them.")
    require_speech: bool = Field(default=False, description="Fail with no_speech when nothing is said.")


class Caption(Manifest, frozen=True):
    """Subtitles into a video: burnt in, or as a track of their own."""

    operation: Literal["caption"] = Field(default="caption", description="Omitted: known from `video` and `srt`.")
    video: Reference = _reference("The video")
    srt: Reference = _reference("Subtitles as SRT, VTT or ASS, or the words.json of a transcription")
    output_filename: VideoName | None = Field(default=None, description="File name. Omitted: NAME.captioned.mp4.")
    style: CaptionStyle = Field(
        default="plain", description="plain, or word by word: fill (karaoke), pop (the word grows), box (behind it)."
    )
    burn: bool = Field(default=True, description="false: a soft track that players switch on; the video is copied.")
    language: Language | None = Field(default=None, description="Of the soft track: a code such as pt or en.")
    quality: int = _quality()


class Image(_Model, frozen=True):
    """One picture and how long it is seen."""

    image: Reference = _reference("The picture")
    duration: Seconds = Field(description="Seconds, above 0 and at most 3600.")
    id: ImageId | None = Field(default=None, description="Yours; echoed in the answer.")


Images = Annotated[tuple[Image, ...], Field(min_length=1, max_length=MAX_IMAGES)]


class _Motion(_Model, frozen=True):
    fps: int = Field(default=24, ge=1, le=60, description="Frames a second.")
    width: int = Field(default=1920, ge=64, le=3840, multiple_of=2, description="Of the video, in pixels.")
    height: int = Field(default=1080, ge=64, le=3840, multiple_of=2, description="Of the video, in pixels.")
    zoom_from: float = Field(default=1.0, ge=1, le=4, description="Zoom of a clip's first frame; 1 shows it all.")
    zoom_to: float = Field(default=1.324, ge=1, le=4, description="Zoom of a clip's last frame.")
    quality: int = _quality()


class Img2Vid(Manifest, _Motion, frozen=True):
    """Each image a clip with a slow zoom: video_1.mp4 … video_N.mp4."""

    operation: Literal["img2vid"] = Field(default="img2vid", description="Omitted: known from `images`.")
    images: Images = Field(description="The pictures, in order.")


class AddAudio(Manifest, frozen=True):
    """A video's sound replaced by an audio file."""

    operation: Literal["addaudio"] = Field(default="addaudio", description="Omitted: known from `video` and `audio`.")
    video: Reference = _reference("The video")
    audio: Reference = _reference("The audio")
    output_filename: VideoName | None = Field(default=None, description="File name. Omitted: NAME.mp4.")
    fit: Literal["shortest", "video", "audio"] = Field(
        default="shortest", description="Whose length the result has: the shorter one's, the video's or the audio's."
    )
    offset: float = Field(
        default=0.0,
        ge=-3600,
        le=3600,
        description="Seconds of delay before the audio; negative skips its start.",
    )
    quality: int = _quality("Constant quality, 0 to 51; used only when the video's codec cannot live in MP4.")


MODELS: dict[str, type[Manifest]] = {
    "transcribe": Transcribe,
    "caption": Caption,
    "img2vid": Img2Vid,
    "addaudio": AddAudio,
}
"""The operations of this project by name; a reader may know more."""
