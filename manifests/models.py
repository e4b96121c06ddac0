"""The manifests of the operations. References are text here; `manifests.references` resolves them.

`manifests.options` holds what an operation takes beside its media. The descriptions are the users' reference: the JSON
Schemas are generated from them.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints

from manifests.hosts import parse_web_address
from manifests.options import (
    AsText,
    AudioMix,
    CaptionStyle,
    ImageMotion,
    Language,
    Quality,
    RecognitionOptions,
    SoundSource,
    SubtitleOptions,
    VideoEncoding,
    one_or_many,
    whole_number_as_text,
)
from manifests.options import ModelName as ModelName

MAX_IMAGES = 10_000
MAX_CLIP_SECONDS = 3600.0
MAX_SCRIPT_CHARACTERS = 1_000_000
"""Of a recording's text: some eighteen hours of speech; twelve are recognised at most."""

SubtitleFormat = Literal["srt", "ass", "json", "vtt", "vtt_karaoke", "lrc", "ttml", "txt"]


def _decimal_comma(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("must be a number of seconds")
    return value.replace(",", ".", 1) if isinstance(value, str) and "." not in value else value


def _file_name(name: str) -> str:
    if "/" in name or "\\" in name or name in (".", "..") or any(ord(c) < 32 or ord(c) == 127 for c in name):
        raise ValueError("must be a file name without folders")
    full = name if name.lower().endswith(".mp4") else name + ".mp4"
    if len(full.encode("utf-8", "surrogatepass")) > 255:
        raise ValueError("is too long: 255 bytes are a file name's limit")
    return full


Reference = Annotated[str, StringConstraints(min_length=1, max_length=2_000_000), AsText]
"""A file: relative to the manifest, "/key" from the bucket's root, s3://bucket/key, https://…, or data:…;base64,…"""


def _usable_address(url: str) -> str:
    if parse_web_address(url) is None:
        raise ValueError("is no usable address: check its host and port")
    return url


VideoName = Annotated[str, StringConstraints(min_length=1, max_length=200), AfterValidator(_file_name), AsText]

_Id = Annotated[str, StringConstraints(max_length=200)]
ImageId = Annotated[_Id, BeforeValidator(whole_number_as_text, json_schema_input_type=_Id | int)]

_ClipLength = Annotated[float, Field(gt=0, le=MAX_CLIP_SECONDS)]
Seconds = Annotated[_ClipLength, BeforeValidator(_decimal_comma, json_schema_input_type=_ClipLength | str)]
"""Length of a clip; a decimal comma is accepted, because spreadsheets write it."""

_Formats = Annotated[tuple[SubtitleFormat, ...], Field(min_length=1)]
Formats = Annotated[_Formats, BeforeValidator(one_or_many, json_schema_input_type=SubtitleFormat | _Formats)]

CallbackUrl = Annotated[
    str,
    StringConstraints(pattern=r"^[hH][tT][tT][pP][sS]?://[^\s]+$", max_length=2000),
    AfterValidator(_usable_address),
]


class _Model(BaseModel, frozen=True, extra="forbid"):
    model_config = ConfigDict(allow_inf_nan=False)


class Manifest(_Model, frozen=True):
    """The fields of every operation; a subclass adds `operation`, a literal, and its own fields."""

    path: Annotated[str, StringConstraints(max_length=1024), AsText] | None = Field(
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


class _TranscribeMedia(Manifest, frozen=True):
    """The media fields, which precede the options so that a missing medium is reported first."""

    operation: Literal["transcribe"] = Field(
        default="transcribe", description="Omitted: known from `audio` without `video` or `images`."
    )
    audio: Reference = _reference("The audio, or a video whose sound is used")


class Transcribe(SubtitleOptions, SoundSource, RecognitionOptions, _TranscribeMedia, frozen=True):
    """Speech to text: subtitles, karaoke and word times."""

    formats: Formats = Field(
        default=("srt", "ass", "json"),
        description="Files to write; one, or a list. With the times of words: ass, json, lrc, vtt_karaoke.",
    )
    naming: Literal["fixed", "media"] = Field(
        default="fixed",
        description="fixed: segments.srt, karaoke.ass, words.json; media: NAME.LANGUAGE.srt and so on.",
    )
    script: Reference | None = Field(
        default=None,
        description="What is said, as you write it (.txt, .md, .srt, .vtt): the outputs carry its words, spelling and"
        " paragraphs, at the recording's times. Named like `audio`.",
    )
    script_text: Annotated[str, StringConstraints(min_length=1, max_length=MAX_SCRIPT_CHARACTERS)] | None = Field(
        default=None, description="The same, in the manifest itself."
    )
    stage_directions: bool = Field(
        default=False, description="true: what a script has in [brackets], and lines in (parentheses), is said, too."
    )
    retime: Reference | None = Field(
        default=None,
        description="Subtitles (SRT, VTT, ASS) of the recording whose times are wrong: their cues and lines are kept.",
    )
    require_speech: bool = Field(default=False, description="Fail with no_speech when nothing is said.")


class _CaptionMedia(Manifest, frozen=True):
    operation: Literal["caption"] = Field(default="caption", description="Omitted: known from `video` and `srt`.")
    video: Reference = _reference("The video")
    srt: Reference = _reference("Subtitles as SRT, VTT or ASS, or the words.json of a transcription")
    output_filename: VideoName | None = Field(default=None, description="File name. Omitted: NAME.captioned.mp4.")


class Caption(VideoEncoding, CaptionStyle, _CaptionMedia, frozen=True):
    """Subtitles into a video: burnt in, or as a track of their own."""

    burn: bool = Field(default=True, description="false: a soft track that players switch on; the video is copied.")
    language: Language | None = Field(default=None, description="Of the soft track: a code such as pt or en.")


class Image(_Model, frozen=True):
    """One picture and how long it is seen."""

    image: Reference = _reference("The picture")
    duration: Seconds = Field(description="Seconds, above 0 and at most 3600.")
    id: ImageId | None = Field(default=None, description="Yours; echoed in the answer.")


Images = Annotated[tuple[Image, ...], Field(min_length=1, max_length=MAX_IMAGES)]


class Img2Vid(Manifest, VideoEncoding, ImageMotion, frozen=True):
    """Each image a clip with a slow zoom: video_1.mp4 … video_N.mp4."""

    operation: Literal["img2vid"] = Field(default="img2vid", description="Omitted: known from `images`.")
    images: Images = Field(description="The pictures, in order.")


class _AddAudioMedia(Manifest, frozen=True):
    operation: Literal["addaudio"] = Field(default="addaudio", description="Omitted: known from `video` and `audio`.")
    video: Reference = _reference("The video")
    audio: Reference = _reference("The audio")
    output_filename: VideoName | None = Field(default=None, description="File name. Omitted: NAME.mp4.")


class AddAudio(VideoEncoding, AudioMix, _AddAudioMedia, frozen=True):
    """A video's sound replaced by an audio file."""

    quality: Quality = Field(
        default=VideoEncoding().quality,
        description="Constant quality, 0 to 51; used only when the video's codec cannot live in MP4.",
    )


MODELS: dict[str, type[Manifest]] = {
    "transcribe": Transcribe,
    "caption": Caption,
    "img2vid": Img2Vid,
    "addaudio": AddAudio,
}
"""This project's operations by name; installed handlers add more."""
