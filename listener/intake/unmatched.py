"""Tells in the log of objects that no trigger takes, once for each kind of file and folder, and never without bound."""

from __future__ import annotations

import re

import structlog

from listener.triggers.triggers import IgnoredEvent
from manifests.media_names import extension
from manifests.names import drop_folder

MAX_KINDS = 200
"""Most kinds of files (bucket and extension) that are told of."""
FOLDERS = 3
"""Most folders for each: a further object of that kind lies elsewhere for the same reason."""

_OURS = re.compile(
    r"(segments|karaoke|words|transcript)\.\w+|video_\d+\.mp4|.+\.captioned\.mp4"
    r"|.+\.[a-z]{2,3}(-\w+)?\.(srt|vtt|ass|lrc|txt|json|ttml)"
)
"""Usual names of what runs write: nobody wonders why nothing starts for them."""

log: structlog.stdlib.BoundLogger = structlog.get_logger("listener.intake")


class UnmatchedObjects:
    """Remembers what has been told."""

    def __init__(self) -> None:
        self._told: dict[tuple[str, str], set[str]] = {}

    def tell(self, bucket: str, key: str, found: IgnoredEvent) -> None:
        """Logs that nothing starts for `key`, unless as much has been said of such objects."""
        if not found.unmatched or _OURS.fullmatch(key.rpartition("/")[2]):
            return
        kind = (bucket, extension(key))
        folders = self._told.get(kind)
        if folders is None:
            if len(self._told) >= MAX_KINDS:
                return
            folders = self._told.setdefault(kind, set())
        folder = drop_folder(key)
        if folder in folders or len(folders) >= FOLDERS:
            return
        folders.add(folder)
        log.info(
            "nothing_starts", bucket=bucket, key=key, reason=found.reason, told="once for such files in this folder"
        )
