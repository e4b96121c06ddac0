"""Finds ffmpeg, runs it on untrusted files and translates its standard error into errors."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import imageio_ffmpeg  # pyright: ignore[reportMissingTypeStubs]

from gpu_dispatch.worker.confinement import limit_error
from gpu_dispatch.worker.video.containers import DEMUXERS
from gpu_dispatch.worker.video.process import Exit, Feed, OutputLineSplitter, run_process
from manifests.errors import ConfigError, EncodeFailed, EngineUnavailable, GpuDropError, MediaUnreadable

_SOURCE = re.compile(r"\[[^\]]* @ 0x[0-9a-f]+\] ?")
_LEVEL = re.compile(r"^\[(?:error|fatal|panic)\] ?")
_CONSEQUENCE = re.compile(
    r"^(Error opening (input|output) files?\b|Error initializing output stream|Conversion failed|Task finished with"
    r"|Terminating thread|Nothing was written|Error sending frames|Error muxing|Error submitting|Error closing"
    r"|Error writing trailer|At least one output file|Could not open encoder before EOF|Failed to load fontconfig)"
)
_UNREADABLE = re.compile(
    r"Invalid data found|moov atom not found|[Ff]ormat not on whitelist|[Pp]rotocol .* not on whitelist"
    r"|EBML header|[Cc]ould not find codec parameters|does not contain any stream|low score of \d+"
)
_DISK_FULL = re.compile(r"No space left on device")


def ffmpeg_failure(stderr: Sequence[str], *, name: str, doing: str) -> GpuDropError:
    """Returns the error of a failed run: MediaUnreadable when the input `name` is at fault, else EncodeFailed.

    `stderr` was written with `-loglevel level+…`; `doing` completes "ffmpeg failed while …".
    """
    line = error_line(stderr)
    if any(_DISK_FULL.search(text) for text in stderr):
        return EncodeFailed("The worker's disk is full.", hint="Give the worker more disk.", where=name, retryable=True)
    if any(_UNREADABLE.search(text) for text in stderr):
        return media_unreadable(name, line)
    return EncodeFailed(
        f"ffmpeg failed while {doing}: {line or 'it gave no reason'}.",
        hint="If the media plays elsewhere, convert it to MP4 (H.264, AAC) and drop it again.",
        where=name,
    )


def media_unreadable(name: str, line: str = "") -> MediaUnreadable:
    return MediaUnreadable(
        f"{name} cannot be read as audio or video" + (f": {line}." if line else "."),
        hint="Check that the file plays and is complete; MP4, MOV, MKV, WebM, AVI, TS, MXF, MP3, M4A, WAV, FLAC, OGG,"
        " WMA, AMR and most others work. Samples without a header need `pcm` in a transcription's manifest.",
        where=name,
    )


def error_line(stderr: Sequence[str]) -> str:
    """Returns the first line that names a cause, without ffmpeg's memory addresses; "" when there is none."""
    lines = [text for raw in stderr if (text := _error_text(raw))]
    causes = [line for line in lines if not _CONSEQUENCE.match(line)]
    line = (causes or lines or [""])[0].rstrip(". ")[:300]
    return "its container is none of the accepted ones" if "not on whitelist" in line else line


def _error_text(raw: str) -> str:
    text = _SOURCE.sub("", raw)
    return _LEVEL.sub("", text).strip() if _LEVEL.match(text) else ""


MAX_FRAME_PIXELS = 8192 * 8192
"""No decoder opens a larger picture, in any track, while a file is probed or processed."""

QUIET: tuple[str, ...] = ("-nostdin", "-hide_banner", "-loglevel", "level+warning", "-nostats", "-y")


def find_ffmpeg(preferred: str | None = None) -> str:
    """Returns `preferred` (a path or a command), else ffmpeg on PATH, else the binary that imageio-ffmpeg ships.

    Raises ConfigError when `preferred` names no program, EngineUnavailable when no ffmpeg is found.
    """
    if preferred:
        found = shutil.which(preferred)
        if not found:
            raise ConfigError(
                f"GPUDROP_FFMPEG names {preferred!r}, which is no program.",
                hint="Give the full path of an ffmpeg, or unset it.",
                where="GPUDROP_FFMPEG",
            )
        return found
    if found := shutil.which("ffmpeg"):
        return found
    try:
        return imageio_ffmpeg.get_ffmpeg_exe()
    except RuntimeError as e:
        raise EngineUnavailable("No ffmpeg was found.", hint="Install ffmpeg, or set GPUDROP_FFMPEG.") from e


def untrusted_input(path: Path, *options: str, demuxers: str = DEMUXERS) -> list[str]:
    """Returns arguments that open `path` as media only: a playlist with a media file's name reads no other file."""
    whitelists = ["-protocol_whitelist", "file,pipe", "-format_whitelist", demuxers]
    return [*whitelists, "-max_pixels", str(MAX_FRAME_PIXELS), *options, "-i", f"file:{path.absolute()}"]


@dataclass(frozen=True, slots=True)
class EncodeProgress:
    """The progress of a run."""

    frames: int
    """Frames written; 0 without video."""
    seconds: float
    """Seconds of output."""


class _ProgressReader:
    """Parses `-progress` blocks: key=value lines up to `progress=continue` or `progress=end`."""

    def __init__(self, on_tick: Callable[[EncodeProgress], None]) -> None:
        self._on_tick = on_tick
        self.last = EncodeProgress(0, 0.0)

    def __call__(self, line: str) -> None:
        key, _, value = line.strip().partition("=")
        value = value.strip()
        if key == "frame" and value.isdigit():
            self.last = EncodeProgress(int(value), self.last.seconds)
        elif key == "out_time_us" and value.isdigit():
            self.last = EncodeProgress(self.last.frames, int(value) / 1_000_000)
        elif key == "progress":
            self._on_tick(self.last)


def _ignore(_: EncodeProgress) -> None:
    return None


@dataclass(frozen=True, slots=True)
class FFmpeg:
    """An ffmpeg program."""

    path: str
    timeout_s: float = 6 * 3600.0
    """Guard against hangs, besides the task's own deadline."""

    async def run(
        self,
        args: Sequence[str],
        *,
        name: str,
        doing: str,
        on_tick: Callable[[EncodeProgress], None] = _ignore,
        on_stderr: Callable[[str], None] | None = None,
        feed: Feed | None = None,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        largest: int = 0,
    ) -> EncodeProgress:
        """Runs ffmpeg on `args` to its end and returns the last progress.

        Errors name the input `name`; `doing` completes "ffmpeg failed while …"; `largest` is in bytes of a written
        file. Raises MediaUnreadable, EncodeFailed, ResourceExhausted, TaskTimedOut, and what `feed` raises.
        """
        progress = _ProgressReader(on_tick)
        argv = [self.path, *QUIET, "-stats_period", "0.5", "-progress", "pipe:1", *args]
        ended = await run_process(
            argv,
            timeout_s=self.timeout_s,
            on_stdout=OutputLineSplitter(progress),
            on_stderr=on_stderr,
            feed=feed,
            cwd=cwd,
            env=env,
            largest=largest,
        )
        if ended.code != 0:
            raise limit_error(ended.code, largest, name, silent=not error_line(ended.stderr)) or ffmpeg_failure(
                ended.stderr, name=name, doing=doing
            )
        return progress.last

    async def read_lines(self, args: Sequence[str], *, name: str, on_line: Callable[[str], None]) -> None:
        """Calls `on_line` with each line that ffmpeg writes to `pipe:1`, which is appended to `args`.

        Raises MediaUnreadable, EncodeFailed, TaskTimedOut, and what `on_line` raises.
        """
        argv = [self.path, *QUIET, *args, "pipe:1"]
        ended = await run_process(argv, timeout_s=self.timeout_s, on_stdout=OutputLineSplitter(on_line))
        if ended.code != 0:
            raise ffmpeg_failure(ended.stderr, name=name, doing="decoding")

    async def read_bytes(
        self, args: Sequence[str], *, on_bytes: Callable[[bytes], None], on_stderr: Callable[[str], None]
    ) -> Exit:
        """Calls `on_bytes` with what ffmpeg writes to `pipe:1`, which `args` name; returns its exit, whatever the code.

        Raises TaskTimedOut, EngineUnavailable, and what `on_bytes` raises.
        """
        argv = [self.path, *QUIET, *args]
        return await run_process(argv, timeout_s=self.timeout_s, on_stdout=on_bytes, on_stderr=on_stderr)

    async def ask(
        self,
        args: Sequence[str],
        *,
        timeout_s: float,
        on_output: Callable[[str], None] | None = None,
        on_line: Callable[[str], None] | None = None,
    ) -> Exit:
        """Runs a short query, such as `-version`, or `-i` without an output; returns its exit, whatever the code.

        `on_output` gets standard output and `on_line` standard error, a line at a time.
        """
        argv = [self.path, "-nostdin", "-hide_banner", *args]
        stdout = OutputLineSplitter(on_output or (lambda _: None))
        return await run_process(argv, timeout_s=timeout_s, on_stdout=stdout, on_stderr=on_line)
