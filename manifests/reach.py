"""How far a drop reaches: what its manifest may name in the store, and where its outputs may lie. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from manifests.errors import OutOfReach
from manifests.media import MediaRef, ObjectRef
from manifests.names import drop_folder

ReachScope = Literal["bucket", "folder"]


@dataclass(frozen=True, slots=True)
class Reach:
    """`scope` bucket: all of the drop's bucket. folder: its own folder, those of `folders` it lies below, and `also`.

    A folder is "" (the bucket's root) or ends in "/", and stands for all that lies below it. In `folders` a segment "*"
    is any one name: with "clients/*/" a drop in "clients/a/in/" reaches all of "clients/a/". `also` is for every drop;
    "s3://bucket/folder/" names a folder of another bucket.
    """

    scope: ReachScope = "bucket"
    folders: tuple[str, ...] = ()
    also: tuple[str, ...] = ()

    @property
    def is_bounded(self) -> bool:
        return self.scope == "folder"

    def covers(self, drop: ObjectRef, bucket: str, key: str) -> bool:
        """Whether the drop reaches `key` of `bucket`. Which other buckets it may read at all is asked elsewhere."""
        if not self.is_bounded:
            return True
        if bucket != drop.bucket:
            return any(f"s3://{bucket}/{key}".startswith(folder) for folder in self.also if "://" in folder)
        return any(key.startswith(folder) for folder in self._within(drop))

    def check_reference(self, drop: ObjectRef, media: MediaRef, where: str) -> None:
        """Raises OutOfReach, naming the field `where`."""
        if isinstance(media, ObjectRef) and not self.covers(drop, media.bucket, media.key):
            name = media.key if media.bucket == drop.bucket else str(media)
            raise self._refused(drop, f"{name!r} may not be named from {_place(drop)}", name, where)

    def check_output(self, drop: ObjectRef, key: str, where: str) -> None:
        """`key` is that of an output, or of the folder of all outputs. Raises OutOfReach."""
        if not self.covers(drop, drop.bucket, key):
            raise self._refused(drop, f"{key!r} may not be written from {_place(drop)}", key, where)

    def _within(self, drop: ObjectRef) -> list[str]:
        own = drop_folder(drop.key)
        wider = [found for folder in self.folders if (found := _matched(folder, own)) is not None]
        return [own, *wider, *(folder for folder in self.also if "://" not in folder)]

    def _refused(self, drop: ObjectRef, problem: str, name: str, where: str) -> OutOfReach:
        inside = [repr(folder) if folder else "this bucket" for folder in self._within(drop)]
        folder = name[: name.rfind("/") + 1] or "/"
        return OutOfReach(
            f"{problem}: a manifest there reaches only {', '.join(dict.fromkeys(inside))}.",
            hint="Stay inside, or have its folder added in config.yaml:"
            f' manifests.also: ["{folder}"], or manifests.folders for a folder of several.',
            where=where,
        )


WHOLE_BUCKET = Reach()


def _matched(folder: str, own: str) -> str | None:
    """The folder that `folder` stands for where a drop lies in `own`; None: it does not lie below it."""
    wanted, there = folder.split("/")[:-1], own.split("/")[:-1]
    if len(there) < len(wanted) or any(w not in ("*", t) for w, t in zip(wanted, there, strict=False)):
        return None
    return "".join(f"{segment}/" for segment in there[: len(wanted)])


def _place(drop: ObjectRef) -> str:
    return f"the folder {drop_folder(drop.key)!r}"
