"""The options of recognition, video encoding, captions, image motion and audio mixing: one frozen type each.

An operation's manifest and its task's parameters both inherit the types that it takes. So every option is flat in the
document and on the wire, and an engine receives all of them unchanged. A new option is a field here, with its limits
and description, and the line that uses it.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self, cast

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, model_validator

Engine = Literal["faster-whisper", "openai-whisper", "transformers"]
Timestamps = Literal["none", "segment", "word"]
StyleName = Literal["plain", "fill", "pop", "box"]
Fit = Literal["shortest", "video", "audio"]
SubtitlePreset = Literal["broadcast", "social", "verbatim"]
Strategy = Literal["auto", "exact"]


def whole_number_as_text(value: Any) -> Any:
    """Converts a whole number to text."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def one_or_many(value: Any) -> Any:
    """Wraps a single text or number in a list."""
    return [value] if isinstance(value, str | int | float) and not isinstance(value, bool) else value


def _tokens(value: Any) -> Any:
    """Accepts Whisper's own spelling, too: "-1", "1,2", and empty text for none."""
    if isinstance(value, str):
        return [part for part in value.replace(" ", "").split(",") if part]
    return one_or_many(value)


AsText = BeforeValidator(whole_number_as_text)

ModelName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
Language = Annotated[str, StringConstraints(pattern=r"^[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8})*$")]

_Languages = Annotated[tuple[Language, ...], Field(min_length=1, max_length=100)]
Languages = Annotated[_Languages, BeforeValidator(one_or_many, json_schema_input_type=Language | _Languages)]
_Hotwords = Annotated[str, StringConstraints(min_length=1, max_length=10_000), AsText]

_Temperature = Annotated[float, Field(ge=0, le=1)]
_Temperatures = Annotated[tuple[_Temperature, ...], Field(min_length=1, max_length=16)]
Temperatures = Annotated[
    _Temperatures, BeforeValidator(one_or_many, json_schema_input_type=_Temperature | _Temperatures)
]
_TokenIds = Annotated[tuple[int, ...], Field(max_length=1000)]
TokenIds = Annotated[_TokenIds, BeforeValidator(_tokens, json_schema_input_type=_TokenIds | int | str)]
Quality = Annotated[int, Field(ge=0, le=51)]


class Options(BaseModel, frozen=True):
    """The options of one part of the work, with the defaults of a manifest that names none."""

    model_config = ConfigDict(allow_inf_nan=False)

    @classmethod
    def fields_of(cls, holder: Self) -> dict[str, Any]:
        """Returns the options of this type by name, from `holder`, an instance of a subclass."""
        return {name: getattr(holder, name) for name in cls.model_fields}


class RecognitionOptions(Options, frozen=True):
    """How speech becomes text."""

    model: ModelName = Field(
        default="base",
        description="Whisper model: tiny, base, small, medium, large-v3, turbo, … or a folder of GPUDROP_MODEL_DIR.",
    )
    engine: Engine | None = Field(default=None, description="Omitted: the one the machine has.")
    language: Language | None = Field(
        default=None, description="Language code such as pt, en or pt-BR. Omitted: detected."
    )
    languages: Languages | None = Field(
        default=None, description="The only languages that are detected, such as [pt, en]. Omitted: all of the model's."
    )
    multilingual: bool = Field(
        default=False, description="Detect the language of each part, where speakers change theirs."
    )
    translate: bool = Field(default=False, description="Translate into English.")
    strategy: Strategy = Field(
        default="auto",
        description="auto: several parts of a recording are decoded together on a GPU, and on a CPU with more than "
        "2 minutes of speech; doubtful parts are decoded again alone. exact: one after the other, as Whisper does.",
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
    initial_prompt: Annotated[str, StringConstraints(max_length=10_000), AsText] | None = Field(
        default=None, description="Names and terms that occur, in a sentence or two."
    )
    hotwords: _Hotwords | None = Field(
        default=None, description="Words that are probable everywhere in the recording; faster-whisper only."
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
    timestamps: Timestamps | None = Field(
        default=None,
        description="word, segment, or none: text in pieces of up to half a minute. Wins over word_timestamps.",
    )
    chunk_length: float | None = Field(
        default=None,
        ge=1,
        le=30,
        description="Longest piece recognised at once, in seconds; transformers only.",
    )
    batch_size: int | None = Field(
        default=None, ge=1, le=256, description="Pieces that are recognised together; transformers only."
    )

    @model_validator(mode="before")
    @classmethod
    def _words_by_timestamps(cls, given: Any) -> Any:
        """Makes `word_timestamps` agree with `timestamps`, so that engines read one of them."""
        if not isinstance(given, dict):
            return given
        fields = cast("dict[str, Any]", given)
        asked = fields.get("timestamps")
        return fields if asked is None else {**fields, "word_timestamps": asked == "word"}


class SubtitleLimits(Options, frozen=True, extra="forbid"):
    """The limits of one cue, in place of the published ones."""

    max_chars: int = Field(default=42, ge=8, le=120, description="Characters of a line; a wide one counts twice.")
    max_lines: int = Field(default=2, ge=1, le=3, description="Lines of a cue.")
    max_cps: float = Field(default=20.0, ge=5, le=100, description="Characters a second, as far as speech allows.")
    min_s: float = Field(default=0.833, ge=0, le=5, description="Seconds that a cue stays at least, where it can.")
    max_s: float = Field(default=7.0, ge=1, le=60, description="Seconds that a cue stays at most.")
    gap_ms: int = Field(default=80, ge=0, le=1000, description="Milliseconds between two cues.")
    lag_s: float = Field(default=0.5, ge=0, le=5, description="Seconds that a cue may stay after its last word.")
    words: int | None = Field(default=None, ge=1, le=50, description="Words of a cue. Omitted: what fits.")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.min_s > self.max_s:
            raise ValueError("min_s must not be more than max_s")
        return self


SUBTITLE_PRESETS: dict[SubtitlePreset, SubtitleLimits] = {
    "broadcast": SubtitleLimits(),
    "social": SubtitleLimits(max_chars=18, max_cps=30, min_s=0.4, max_s=3, gap_ms=0, lag_s=0.3, words=5),
    "verbatim": SubtitleLimits(max_cps=100, min_s=0, gap_ms=0, lag_s=0),
}


def _preset(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    for name, limits in SUBTITLE_PRESETS.items():
        if value == name:
            return limits
    raise ValueError(f"must be one of {', '.join(SUBTITLE_PRESETS)}, or limits such as {{max_chars: 32}}")


class SubtitleOptions(Options, frozen=True):
    """How subtitles are cut."""

    subtitles: Annotated[
        SubtitleLimits, BeforeValidator(_preset, json_schema_input_type=SubtitlePreset | SubtitleLimits)
    ] = Field(
        default=SUBTITLE_PRESETS["broadcast"],
        description="broadcast: the limits that broadcasters publish; social: up to five words at a time, for upright"
        " video; verbatim: exactly as long as its words, however fast; or limits of your own.",
    )


PcmFormat = Literal["s16le", "s16be", "s24le", "s32le", "f32le", "f64le", "u8", "s8", "alaw", "mulaw"]


class RawPcm(BaseModel, frozen=True, extra="forbid"):
    """Samples without a header, as speech services return them."""

    rate: int = Field(default=24_000, ge=1_000, le=768_000, description="Samples a second.")
    channels: int = Field(default=1, ge=1, le=64, description="Channels, interleaved.")
    format: PcmFormat = Field(default="s16le", description="What a sample is, by ffmpeg's name.")


_TrackNumber = Annotated[int, Field(ge=1, le=1000)]


class SoundSource(Options, frozen=True):
    """Where in the file the sound is, and how to read it."""

    track: Annotated[_TrackNumber | Language, Field(union_mode="left_to_right")] | None = Field(
        default=None,
        description="Audio track: its number from 1, or its language. Omitted: the default one, if it can be heard.",
    )
    pcm: RawPcm | None = Field(
        default=None, description="The file holds samples without a header: {rate: 24000, channels: 1, format: s16le}."
    )


class CaptionStyle(Options, frozen=True):
    """How captions that are drawn into the picture look."""

    style: StyleName = Field(
        default="plain", description="plain, or word by word: fill (karaoke), pop (the word grows), box (behind it)."
    )


class VideoEncoding(Options, frozen=True):
    """How video is encoded, when it is encoded."""

    quality: Quality = Field(default=23, description="Constant quality, 0 to 51; lower is better and larger.")


class ImageMotion(Options, frozen=True):
    """The slow zoom that turns a picture into a clip, and the shape of the clip."""

    fps: int = Field(default=24, ge=1, le=60, description="Frames a second.")
    width: int = Field(default=1920, ge=64, le=3840, multiple_of=2, description="Of the video, in pixels.")
    height: int = Field(default=1080, ge=64, le=3840, multiple_of=2, description="Of the video, in pixels.")
    zoom_from: float = Field(default=1.0, ge=1, le=4, description="Zoom of a clip's first frame; 1 shows it all.")
    zoom_to: float = Field(default=1.324, ge=1, le=4, description="Zoom of a clip's last frame.")


class AudioMix(Options, frozen=True):
    """How audio and a video that were made separately are combined."""

    fit: Fit = Field(
        default="shortest", description="Whose length the result has: the shorter one's, the video's or the audio's."
    )
    offset: float = Field(
        default=0.0,
        ge=-3600,
        le=3600,
        description="Seconds of delay before the audio; negative skips its start.",
    )
