"""The operation caption: burns subtitles into a video, or adds them as a track that players can show."""

from __future__ import annotations

import math
import os
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import escape

import fontpkg_open_sans  # pyright: ignore[reportMissingTypeStubs]

from gpu_dispatch.task import CaptionLayout, CaptionParams, Videos
from gpu_dispatch.worker.context import JobContext
from gpu_dispatch.worker.video.encoder import (
    FASTSTART,
    Encoder,
    EncoderName,
    audio_args,
    can_copy_video,
    copy_video_args,
    iso639_2,
)
from gpu_dispatch.worker.video.ffmpeg import FFmpeg, untrusted_input
from gpu_dispatch.worker.video.filters import decoder_threads
from gpu_dispatch.worker.video.output import describe, encode_args, reporter
from gpu_dispatch.worker.video.probe import Media, VideoTrack, probe_media
from manifests.errors import FontMissing

FAMILY = "Open Sans"
_SYSTEM_FOLDERS = ("/usr/share/fonts", "/usr/local/share/fonts", "/Library/Fonts", "/System/Library/Fonts")
_SUFFIXES = (".ttf", ".otf", ".ttc")


def bundled_folder() -> Path:
    return Path(fontpkg_open_sans.__file__).parent / "files"


def system_fonts() -> tuple[Path, ...]:
    """Returns the font files installed on this machine."""
    folders = [Path(folder) for folder in _SYSTEM_FOLDERS]
    found = (
        Path(root) / name
        for folder in folders
        for root, _, names in os.walk(folder)
        for name in names
        if name.lower().endswith(_SUFFIXES)
    )
    return tuple(sorted(found))


def write_fontconfig(folder: Path, fonts: tuple[Path, ...] | None = None) -> Path:
    """Writes a fontconfig file with the bundled and the system's fonts (or just `fonts`), but no user's fonts.

    libass needs fontconfig to find glyphs that a style's font lacks; a machine without fonts has no configuration.
    """
    where = fonts if fonts is not None else (bundled_folder(), *map(Path, _SYSTEM_FOLDERS))
    dirs = "".join(f"  <dir>{escape(str(path))}</dir>\n" for path in where)
    config = folder / "fonts.conf"
    config.write_text(
        '<?xml version="1.0"?>\n<!DOCTYPE fontconfig SYSTEM "fonts.dtd">\n<fontconfig>\n'
        f"{dirs}"
        "  <cachedir>/var/cache/fontconfig</cachedir>\n"
        '  <cachedir prefix="xdg">fontconfig</cachedir>\n'
        "</fontconfig>\n",
        encoding="utf-8",
    )
    return config


ASS_NAME, SRT_NAME, FONTS_NAME = "sub.ass", "sub.srt", "sub.fonts"

_NO_GLYPH = re.compile(r"failed to find any fallback with glyph 0x([0-9A-Fa-f]+)")
_ATTACHMENTS = re.compile(r"^\[(?:Fonts|Graphics)\][^\n]*\n(?:(?!\[).*(?:\n|\Z))*", re.IGNORECASE | re.MULTILINE)


@dataclass(frozen=True, slots=True)
class BurnOrMux:
    """Burns the layout nearest to the video's shape; with `soft_srt`, adds a track and copies the rest."""

    ffmpeg: FFmpeg
    encoder: Encoder
    fonts: tuple[Path, ...] | None = None
    """Font folders; None: the bundled one and the system's."""

    async def __call__(self, params: CaptionParams, job: JobContext) -> Videos:
        """Raises MediaUnreadable, NoVideo, FontMissing (no font has a character's glyph) or EncodeFailed."""
        media = await probe_media(self.ffmpeg, job.path(params.video))
        track = media.require_video()
        if params.soft_srt is not None:
            frames, encoder = await self._add_track(params, params.soft_srt, job, media, track)
        elif params.layouts:
            frames, encoder = await self._burn(params, job, media, track)
        else:
            raise ValueError("caption parameters with neither layouts nor soft_srt")
        return Videos((await describe(self.ffmpeg, job, params.output, frames),), encoder)

    async def _burn(
        self, params: CaptionParams, job: JobContext, media: Media, track: VideoTrack
    ) -> tuple[int, EncoderName]:
        layout = nearest_layout(params.layouts, track)
        job.path(ASS_NAME).write_text(_without_attachments(layout.ass), encoding="utf-8")
        env = {**os.environ, "FONTCONFIG_FILE": str(write_fontconfig(job.folder, self.fonts).absolute())}
        drawn = f"ass={ASS_NAME}{self._fonts_option(job)}"
        glyphs = _MissingGlyphs()

        async def attempt(encoder: EncoderName) -> int:
            done = await self.ffmpeg.run(
                [
                    *untrusted_input(job.path(params.video), *decoder_threads(track)),
                    *("-map", "0:V:0", *encode_args(track, encoder, params, drawn)),
                    *_output_args(params, job, media),
                ],
                name=params.video,
                doing="burning the captions in",
                on_tick=reporter(job, media.duration),
                on_stderr=glyphs,
                cwd=job.folder,
                env=env,
                largest=job.max_bytes(params.video),
            )
            return done.frames

        frames, encoder = await self.encoder.encode(attempt)
        glyphs.check(params.video)
        return frames, encoder

    def _fonts_option(self, job: JobContext) -> str:
        """Returns the filter option for the bundled fonts, the only ones that a libass without fontconfig finds."""
        if self.fonts is not None:
            return ""
        link = job.path(FONTS_NAME)
        if not link.is_symlink():
            link.symlink_to(bundled_folder(), target_is_directory=True)
        return f":fontsdir={FONTS_NAME}"

    async def _add_track(
        self, params: CaptionParams, srt: str, job: JobContext, media: Media, track: VideoTrack
    ) -> tuple[int, str]:
        job.path(SRT_NAME).write_text(srt, encoding="utf-8")
        subtitles = ["-protocol_whitelist", "file,pipe", "-f", "srt", "-i", f"file:{job.path(SRT_NAME).absolute()}"]

        async def mux(video: Sequence[str]) -> int:
            done = await self.ffmpeg.run(
                [
                    *untrusted_input(job.path(params.video), *decoder_threads(track)),
                    *subtitles,
                    *("-map", "0:V:0", *video),
                    *("-map", "1:s:0", "-c:s", "mov_text", "-disposition:s:0", "0"),
                    *("-metadata:s:s:0", f"language={iso639_2(params.language)}"),
                    *_output_args(params, job, media),
                ],
                name=params.video,
                doing="adding the subtitle track",
                on_tick=reporter(job, media.duration),
                largest=job.max_bytes(params.video),
            )
            return done.frames

        async def attempt(encoder: EncoderName) -> int:
            return await mux(encode_args(track, encoder, params))

        if can_copy_video(track):
            return await mux(copy_video_args(track)), "copy"
        return await self.encoder.encode(attempt)


def nearest_layout(layouts: Sequence[CaptionLayout], track: VideoTrack) -> CaptionLayout:
    """Returns the layout whose aspect ratio is nearest to that of the displayed picture."""
    width, height = track.display_size
    return min(layouts, key=lambda layout: abs(math.log((layout.width / layout.height) / (width / height))))


def _output_args(params: CaptionParams, job: JobContext, media: Media) -> list[str]:
    return [*audio_args(media.audio), *FASTSTART, str(job.path(params.output).absolute())]


def _without_attachments(ass: str) -> str:
    """Removes embedded fonts and pictures, which gpudrop never writes: font files are programs."""
    return _ATTACHMENTS.sub("", ass.replace("\0", ""))


def _shapeless(character: str) -> bool:
    """Whether `character` needs no glyph: joiners, direction marks, unusual blanks and variation selectors."""
    return unicodedata.category(character) in ("Cf", "Cc", "Zs") or "\ufe00" <= character <= "\ufe0f"


class _MissingGlyphs:
    """Collects the characters that libass found in no font; ffmpeg draws a box, or nothing, and exits with 0."""

    def __init__(self) -> None:
        self._found: dict[str, None] = {}

    def __call__(self, line: str) -> None:
        match = _NO_GLYPH.search(line)
        if match and len(self._found) < 20:
            character = chr(int(match[1], 16)) if int(match[1], 16) < 0x110000 else "?"
            if character == "\0" or not _shapeless(character):
                self._found[character] = None

    def check(self, name: str) -> None:
        if not self._found:
            return
        drawn = " ".join(c for c in self._found if c != "\0")
        raise FontMissing(
            f"No font on the worker can draw {drawn}." if drawn else "The worker has no fonts at all.",
            hint="Install fonts for the language on the worker: fonts-noto-core, and fonts-noto-cjk for Asian scripts.",
            where=name,
        )
