"""What ffmpeg's standard error means, in the project's errors."""

from __future__ import annotations

import re
from collections.abc import Sequence

from manifests.errors import EncodeFailed, GpuDropError, MediaUnreadable

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
    """The error behind a failed run: MediaUnreadable when `name`, the input, is at fault, else EncodeFailed.

    `stderr` was written with `-loglevel level+…`; `doing` completes "ffmpeg failed while …".
    """
    line = telling_line(stderr)
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
        hint="Check that the file plays and is complete; MP4, MOV, MKV, WebM, AVI, TS, MP3, WAV, FLAC and OGG work.",
        where=name,
    )


def telling_line(stderr: Sequence[str]) -> str:
    """The first line that names a cause, without ffmpeg's addresses; "" when there is none."""
    lines = [text for raw in stderr if (text := _error_text(raw))]
    causes = [line for line in lines if not _CONSEQUENCE.match(line)]
    line = (causes or lines or [""])[0].rstrip(". ")[:300]
    return "its container is none of the accepted ones" if "not on whitelist" in line else line


def _error_text(raw: str) -> str:
    text = _SOURCE.sub("", raw)
    return _LEVEL.sub("", text).strip() if _LEVEL.match(text) else ""
