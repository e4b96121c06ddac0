"""The files a manifest names: found, waited for, and known to be whole."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count

from handlers.base import Input, Reference
from listener.runs.fetching import Fetcher
from listener.signals import Arrivals
from listener.store import ObjectMeta, Store
from manifests.error_groups import task_group
from manifests.errors import InputEmpty, InputMissing, InputTooLarge
from manifests.media import MediaRef, ObjectRef, ReferencePolicy, UrlRef, resolve

POLL_S = 2.0
POLL_MOST_S = 10.0
"""Time between the first looks for a missing input, and between later ones. An event about it ends the wait at once."""

PARALLEL_LOOKS = 16
SETTLE_S = 2.0
"""A file touched more lately than this may still be growing."""
SETTLE_POLL_S = 0.5


@dataclass(frozen=True, slots=True)
class Found:
    """One reference, found. `size` is None for a URL, which only the worker will open."""

    role: str
    media: MediaRef
    size: int | None


@dataclass(frozen=True, slots=True)
class _Wanted:
    reference: Reference
    media: MediaRef


class InputFinder:
    def __init__(
        self,
        store: Store,
        fetcher: Fetcher,
        arrivals: Arrivals,
        policy: ReferencePolicy,
        *,
        clock: Callable[[], float],
        grows: bool,
    ) -> None:
        """`grows`: objects of this store may be seen half-written, as files are. `clock` gives epoch seconds."""
        self._store = store
        self._fetcher = fetcher
        self._arrivals = arrivals
        self._policy = policy
        self._clock = clock
        self._grows = grows

    async def find(
        self,
        references: Sequence[Reference],
        *,
        bucket: str,
        folder: str,
        deadline: float,
        waiting: Callable[[tuple[str, ...]], None],
    ) -> tuple[Found, ...]:
        """All of `references` once they are there; `waiting` is told which keys are still missing.

        Raises InputMissing after `deadline` (epoch seconds), InputEmpty, InputTooLarge, and what `resolve` raises.
        """
        wanted = [
            _Wanted(r, resolve(r.text, bucket=bucket, folder=folder, policy=self._policy, where=r.role))
            for r in references
        ]
        pauses = (min(POLL_S * 1.5**n, POLL_MOST_S) for n in count())
        while True:
            metas = await self._look(wanted)
            missing = [w for w, meta in zip(wanted, metas, strict=True) if meta is None and _is_object(w.media)]
            growing = [m for m in metas if m and self._is_growing(m)]
            if not missing and not growing:
                return tuple(_found(w, meta) for w, meta in zip(wanted, metas, strict=True))
            if missing:
                waiting(tuple(_key(w.media) for w in missing))
                if self._clock() >= deadline:
                    raise _missing(missing)
            pause = SETTLE_POLL_S if growing and not missing else next(pauses)
            await self._arrivals.wait(_objects(missing), at_most_s=pause)

    async def load(self, references: Sequence[Reference], found: Sequence[Found]) -> dict[str, Input]:
        """What a plan is made from: every input by role, with the content of those that are to be read."""
        inputs: dict[str, Input] = {}
        for reference, item in zip(references, found, strict=True):
            content = await self._content(reference, item.media) if reference.read else None
            inputs[item.role] = Input(media=item.media, size=item.size, content=content)
        return inputs

    async def _content(self, reference: Reference, media: MediaRef) -> bytes:
        if isinstance(media, UrlRef):
            return await self._fetcher.read(media.url, role=reference.role, max_bytes=reference.max_bytes)
        content = await self._store.read(media.bucket, media.key, max_bytes=reference.max_bytes)
        if content is None:
            raise _missing([_Wanted(reference, media)])
        return content

    async def _look(self, wanted: Sequence[_Wanted]) -> list[ObjectMeta | None]:
        gate = asyncio.Semaphore(PARALLEL_LOOKS)

        async def look(media: MediaRef) -> ObjectMeta | None:
            if not isinstance(media, ObjectRef):
                return None
            async with gate:
                return await self._store.head(media.bucket, media.key)

        async with task_group() as group:
            tasks = [group.create_task(look(w.media)) for w in wanted]
        return [t.result() for t in tasks]

    def _is_growing(self, meta: ObjectMeta) -> bool:
        """Whether a file was touched so lately that it may still be being copied."""
        return self._grows and 0 <= self._clock() - meta.last_modified.timestamp() < SETTLE_S


def _found(wanted: _Wanted, meta: ObjectMeta | None) -> Found:
    reference = wanted.reference
    if meta is None:
        return Found(reference.role, wanted.media, None)
    if meta.size == 0:
        raise InputEmpty(f"{meta.key!r} is empty.", hint="Upload the file again.", where=reference.role)
    if reference.read and meta.size > reference.max_bytes:
        raise InputTooLarge(
            f"{meta.key!r} has {meta.size} bytes; {reference.max_bytes} are allowed here.",
            hint="Check that the manifest names the right file.",
            where=reference.role,
        )
    return Found(reference.role, wanted.media, meta.size)


def _missing(wanted: Sequence[_Wanted]) -> InputMissing:
    keys = ", ".join(repr(_key(w.media)) for w in wanted[:5]) + (" …" if len(wanted) > 5 else "")
    return InputMissing(
        f"Not there: {keys}.",
        hint="Check the spelling (case counts), put the file there, then drop the manifest again.",
        where=wanted[0].reference.role,
    )


def _is_object(media: MediaRef) -> bool:
    return isinstance(media, ObjectRef)


def _key(media: MediaRef) -> str:
    return media.key if isinstance(media, ObjectRef) else str(media)


def _objects(wanted: Sequence[_Wanted]) -> frozenset[tuple[str, str]]:
    return frozenset((w.media.bucket, w.media.key) for w in wanted if isinstance(w.media, ObjectRef))
