"""Finds the files that a manifest names, waits for them, and makes sure that they are complete."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from itertools import count

from handlers.base import Input, Reference
from listener.clock import Clock
from listener.fairness import FairGate, turn_of
from listener.run_request import RunRequest
from listener.runs.defaults import Refusals
from listener.runs.input_search import (
    InputGrowth,
    InputRead,
    InputsAwaited,
    InputSearch,
    InputTerms,
    WantedInput,
    missing,
)
from listener.runs.manifests import DocumentFetcher
from listener.signals import ObjectWaiters
from listener.stores.base import ObjectMeta, Store
from manifests.errors import InputEmpty, InputTooLarge, ObjectDenied, StoreDenied
from manifests.references import MediaRef, ObjectRef, ReferencePolicy, UrlRef, resolve_reference
from manifests.task_groups import task_group

POLL_S = 2.0
POLL_MOST_S = 10.0
"""Seconds between the first reads of a missing input, and between later ones. An event about it ends the wait at once.
"""

MAX_EXECUTING_WAIT_S = 2.0
"""Seconds that a run keeps executing without an input: mostly it comes right after the manifest that names it."""

GROWTH_PATIENCE_S = 10.0
"""The same for an input that is still being written."""

PARALLEL_READS = 8
"""Reads of inputs' metadata at once, of all runs, in fair turns."""
READ_BATCH = 64
"""References of one run that are read together. While one of them is missing the rest is not read."""
SETTLE_POLL_S = 0.5
"""Seconds between two reads of growing inputs."""


@dataclass(frozen=True, slots=True)
class FoundInput:
    """One reference that was found."""

    role: str
    media: MediaRef
    size: int | None
    """None for a URL, which only the worker will open."""


class InputFinder:
    """Finds the inputs of runs."""

    def __init__(
        self,
        store: Store,
        fetcher: DocumentFetcher,
        object_waiters: ObjectWaiters,
        policy: ReferencePolicy,
        *,
        clock: Clock,
        grows: bool,
        real_key: Callable[[str], Awaitable[str]] | None = None,
        growth_patience_s: float = GROWTH_PATIENCE_S,
    ) -> None:
        """`grows`: objects of this store may be seen half-written, as files are. `real_key`: where a key leads in a
        store that has links; None: it has none. `growth_patience_s`: seconds that a run keeps executing while an input
        is being written."""
        self._growth_patience_s = growth_patience_s
        self._store = store
        self._fetcher = fetcher
        self._object_waiters = object_waiters
        self._policy = policy
        self._clock = clock
        self._grows = grows
        self._real_key = real_key
        self._refusals = Refusals(store)
        self._gate = FairGate(PARALLEL_READS)

    async def find(
        self,
        references: Sequence[Reference],
        terms: InputTerms,
        *,
        waiting: Callable[[tuple[str, ...]], None],
        crowded: Callable[[], bool] = lambda: False,
    ) -> tuple[FoundInput, ...]:
        """Returns all of `references` once they are there; `waiting` is called with what is still waited for, in words.

        Raises InputsAwaited when an input stays missing or keeps growing, or is missing while `crowded` says that slots
        are few: the run then waits in the ledger, where that costs none. Raises InputMissing, InputUnsettled and
        ObjectDenied for what is missing, growing or refused until the time is over, InputEmpty, InputTooLarge,
        OutOfReach, and what `resolve_reference` raises.
        """
        wanted = [WantedInput(r, self._resolved(r, terms)) for r in references]
        now = asyncio.get_running_loop().time
        search = InputSearch(terms, InputGrowth(self._clock, now) if self._grows else None, now)
        pauses = (min(POLL_S * 1.5**n, POLL_MOST_S) for n in count())
        began = now()
        while True:
            looks = await self._read_all(wanted, terms)
            search.note(wanted[: len(looks)], looks)
            if search.over:
                for each in wanted:
                    await self.check_link(terms, each.media, each.reference.role)
                return tuple(_found(w, look) for w, look in zip(wanted, looks, strict=True))
            if search.refused:
                await self._refusals.check(terms.drop)
            if words := search.words():
                waiting(words)
            search.check(late=self._clock.age_s(terms.received) >= terms.wait_s)
            long = search.missing and (now() - began >= MAX_EXECUTING_WAIT_S or crowded())
            if long or search.grows_for(self._growth_patience_s):
                raise InputsAwaited(_objects(search.missing), _objects(search.growing), "; ".join(search.words()))
            pause = SETTLE_POLL_S if search.growing and not search.missing else next(pauses)
            await self._object_waiters.wait(_objects(search.missing), at_most_s=pause)

    async def load(
        self, references: Sequence[Reference], found: Sequence[FoundInput], terms: InputTerms
    ) -> dict[str, Input]:
        """Returns every input by role, with the content of those that the plan reads."""
        inputs: dict[str, Input] = {}
        for reference, item in zip(references, found, strict=True):
            content = await self._content(reference, item.media, terms) if reference.read else None
            inputs[item.role] = Input(media=item.media, size=item.size, content=content)
        return inputs

    async def check_link(self, terms: InputTerms, media: MediaRef, where: str) -> None:
        """Checks that `media`, if it is a link, leads only to what the drop might name itself. Raises OutOfReach."""
        if self._real_key is None or not terms.reach.is_bounded or not isinstance(media, ObjectRef):
            return
        real = await self._real_key(media.key)
        if real != media.key:
            terms.reach.check_reference(terms.drop, ObjectRef(media.bucket, real), where)

    async def check_outputs(self, terms: InputTerms, keys: Sequence[str], *, by_operator: str | None) -> None:
        """Checks that outputs lie where the drop reaches, or below `by_operator`, the folder that the operator gave
        them. Links are checked too: whoever drops may have made them. Raises OutOfReach."""
        reach, drop = terms.reach, terms.drop
        if not reach.is_bounded:
            return
        for key in keys:
            real = await self._real_key(key) if self._real_key else key
            for each in dict.fromkeys((key, real)):
                if by_operator is None or not each.startswith(by_operator):
                    reach.check_output(drop, each, "path")

    def _resolved(self, reference: Reference, terms: InputTerms) -> MediaRef:
        here = {"bucket": terms.drop.bucket, "folder": terms.folder}
        media = resolve_reference(reference.text, **here, policy=self._policy, where=reference.role)
        if re.split(r"[.\[]", reference.role, maxsplit=1)[0] not in terms.operators:
            terms.reach.check_reference(terms.drop, media, reference.role)
        return media

    async def _content(self, reference: Reference, media: MediaRef, terms: InputTerms) -> bytes:
        if isinstance(media, UrlRef):
            return await self._fetcher.read(media.url, role=reference.role, max_bytes=reference.max_bytes)
        content = await self._refusals.outlasted(
            lambda: self._store.read(media.bucket, media.key, max_bytes=reference.max_bytes),
            terms.drop,
            terms.refused_s,
        )
        if content is None:
            raise missing([WantedInput(reference, media)])
        return content

    async def _read_all(self, wanted: Sequence[WantedInput], terms: InputTerms) -> list[InputRead]:
        """Returns what was read of each input; stops after the batch in which one is missing."""
        looks: list[InputRead] = []
        while len(looks) < len(wanted):
            some = wanted[len(looks) : len(looks) + READ_BATCH]
            async with task_group() as group:
                tasks = [group.create_task(self._read_metadata(w.media, terms)) for w in some]
            looks += [task.result() for task in tasks]
            if any(t.result() is None and isinstance(w.media, ObjectRef) for w, t in zip(some, tasks, strict=True)):
                break
        return looks

    async def _read_metadata(self, media: MediaRef, terms: InputTerms) -> InputRead:
        if not isinstance(media, ObjectRef):
            return None
        drop = terms.drop
        try:
            async with self._gate.turn(turn_of(drop.bucket, drop.key)):
                return await self._store.head(media.bucket, media.key)
        except ObjectDenied:
            raise
        except StoreDenied as e:
            return e


def input_terms_of(run: RunRequest, operators: tuple[str, ...]) -> InputTerms:
    """Returns the terms of `run`'s search; `operators` are the manifest fields that the operator set."""
    trigger, drop = run.trigger, ObjectRef(run.bucket, run.key)
    return InputTerms(drop, run.folder, run.received, trigger.wait_for_inputs_s, trigger.reach, operators)


def _found(wanted: WantedInput, meta: InputRead) -> FoundInput:
    reference = wanted.reference
    if not isinstance(meta, ObjectMeta):
        return FoundInput(reference.role, wanted.media, None)
    if meta.size == 0:
        raise InputEmpty(f"{meta.key!r} is empty.", hint="Upload the file again.", where=reference.role)
    if reference.read and meta.size > reference.max_bytes:
        raise InputTooLarge(
            f"{meta.key!r} has {meta.size} bytes; {reference.max_bytes} are allowed here.",
            hint="Check that the manifest names the right file.",
            where=reference.role,
        )
    return FoundInput(reference.role, wanted.media, meta.size)


def _objects(wanted: Sequence[WantedInput]) -> frozenset[tuple[str, str]]:
    return frozenset((w.media.bucket, w.media.key) for w in wanted if isinstance(w.media, ObjectRef))
