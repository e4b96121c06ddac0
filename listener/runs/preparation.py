"""Prepares a run before its first job: resolves its manifest, finds its inputs, makes its plan, claims its outputs.

All of it is one recorded step: until that is recorded it is repeated after a crash, and writes nothing but claims.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from handlers.base import Handler, Input, Plan, Planning, Reference
from listener.fairness import turn_of
from listener.processes.parsers import LARGE, REFERENCE_COST
from listener.run_request import RunRequest
from listener.runs.input_search import InputTerms
from listener.runs.inputs import FoundInput, input_terms_of
from listener.runs.manifests import ResolvedManifest
from listener.runs.services import RunServices
from listener.runs.status import RunStatusWriter
from manifests.error_classes import is_waited_for
from manifests.errors import ErrorInfo, EventTooOld, GpuDropError, RunCancelled, RunSuperseded
from manifests.keys import output_folder
from manifests.models import Manifest
from manifests.sidecars import awaits_callback

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Prepared:
    """What is known before the first job is sent; with an `error`, as far as the preparation got."""

    asked: ResolvedManifest | None = None
    found: tuple[FoundInput, ...] = ()
    plan: Plan | None = None
    error: ErrorInfo | None = None
    ended: bool = False
    """Whether an earlier execution ended the run: its final sidecar is there."""
    callback_url: str | None = None
    """Where to report an error that came before the manifest was resolved, or an end in an earlier execution."""


class Preparation:
    """Prepares one run in one execution of its workflow."""

    def __init__(self, c: RunServices, run: RunRequest, status: RunStatusWriter) -> None:
        self._services = c
        self._run = run
        self._status = status
        self._share = 0
        self._turn = turn_of(run.bucket, run.key)
        self.asked: ResolvedManifest | None = None
        """What the run asks for; None until it is resolved."""

    async def prepare(self) -> Prepared:
        """Does everything before the first job. Harmless to repeat: nothing is written but the run's claims."""
        self.asked = None
        if body := await self._services.adoption.begin(self._run):
            # Its record was lost, with its entry in the outbox.
            waits = await asyncio.to_thread(awaits_callback, body)
            return Prepared(ended=True, callback_url=await self._callback_url() if waits else None)
        try:
            await self._services.outputs.check_sidecars(self._run)
            asked, references = await self._resolve()
            found = await self._find(asked, references)
            plan = await self._plan(asked, references, found)
        except GpuDropError as e:
            if is_waited_for(e):
                raise
            url = None if self.asked or isinstance(e, RunCancelled | RunSuperseded) else await self._callback_url()
            return Prepared(asked=self.asked, error=e.info, callback_url=url)
        return Prepared(asked, found, plan)

    def planning(self, asked: ResolvedManifest, found: tuple[FoundInput, ...]) -> tuple[Handler[Any], Planning[Any]]:
        """Returns the handler, and all that a plan depends on but its inputs' content, which only `prepare` reads."""
        handler = self._services.registry.get(asked.operation)
        manifest = handler.model.model_validate(asked.fields)
        planning = Planning(
            manifest=manifest,
            name=self._run.name,
            bucket=self._run.bucket,
            folder=self._output_folder(asked, manifest),
            inputs={item.role: Input(item.media, item.size) for item in found},
        )
        return handler, planning

    async def claim(self, asked: ResolvedManifest, keys: Sequence[str], folder: str) -> None:
        """Claims `keys`, which belong into `folder`, for this run. Raises OutputTaken and OutOfReach."""
        by_operator = folder if "path" in asked.operators else None
        await self._services.finder.check_outputs(self._terms(asked), keys, by_operator=by_operator)
        await self._unless_ended(self._services.outputs.secure(self._run, keys, lambda why: self._waits([why])))

    def leave_room(self) -> None:
        share, self._share = self._share, 0
        if share:
            self._services.room.release(share, self._turn)

    async def _resolve(self) -> tuple[ResolvedManifest, tuple[Reference, ...]]:
        """Returns what is asked for. If that names very many files, it is not kept while others have the room."""
        while True:
            asked = self.asked = await self._read()
            handler, planning = self.planning(asked, ())
            self._status.move("accepted", operation=asked.operation)
            references = handler.references(planning.manifest)
            share = self._services.room.share_of(len(references))
            if self._has_room(share):
                return asked, references
            words = f"room for a list of {len(references):,} files"
            self.asked = None
            del asked, handler, planning, references
            self._waits([words])
            await self._unless_ended(self._services.room.acquire(share, self._turn))
            self._share = share

    def _has_room(self, share: int) -> bool:
        if share <= self._share:
            return True
        self.leave_room()
        if self._services.room.try_acquire(share, self._turn):
            self._share = share
        return self._share == share

    async def _callback_url(self) -> str | None:
        """Returns the callback URL of a drop that was not resolved in this execution."""
        return await self._services.reader.callback_url(self._run)

    async def _read(self) -> ResolvedManifest:
        self._status.move("accepted")
        self._services.cancellations.check(self._run.run_id)
        asking = input_terms_of(self._run, ())
        await self._services.finder.check_link(asking, asking.drop, "")
        age = self._services.clock.age_s(self._run.fresh)
        if age > self._run.trigger.max_event_age_s:
            raise EventTooOld(f"The event came {age:.0f} s ago.", hint="Drop the file again, or raise max_event_age.")
        return await self._services.reader.read(self._run)

    async def _find(self, asked: ResolvedManifest, references: tuple[Reference, ...]) -> tuple[FoundInput, ...]:
        crowded = self._services.admission.is_full
        finding = self._services.finder.find(references, self._terms(asked), waiting=self._waits, crowded=crowded)
        return await self._unless_ended(finding)

    async def _plan(
        self, asked: ResolvedManifest, references: tuple[Reference, ...], found: tuple[FoundInput, ...]
    ) -> Plan:
        handler, planning = self.planning(asked, found)
        sizes = [item.size for reference, item in zip(references, found, strict=True) if reference.read]
        async with self._services.parsers.slot(None if None in sizes else sum(filter(None, sizes)), self._turn):
            inputs = await self._services.finder.load(references, found, self._terms(asked))
            read = sum(len(item.content) for item in inputs.values() if item.content)
            # A long list of files takes time, too, though none of them is read.
            read = max(read, min(len(references) * REFERENCE_COST, LARGE - 1))
            plan = await self._services.parsers.run(read, handler.plan, replace(planning, inputs=inputs))
            del inputs
        await asyncio.to_thread(self._services.models.check_plan, plan)
        targets = [target.key for task in plan.tasks for target in task.outputs]
        await self.claim(asked, (*targets, *plan.writes), planning.folder)
        return plan

    def _output_folder(self, asked: ResolvedManifest, manifest: Manifest) -> str:
        """Returns the folder of the outputs. A trigger's template is the operator's, and may lead up; a manifest may
        not. Raises InvalidPath and OutOfReach."""
        may_climb = self._run.trigger.manifest is not None
        folder = output_folder(manifest.path, folder=self._run.folder, allow_parent=may_climb)
        if "path" not in asked.operators:
            self._run.trigger.reach.check_output(self._terms(asked).drop, folder, "path")
        return folder

    def _terms(self, asked: ResolvedManifest) -> InputTerms:
        return input_terms_of(self._run, asked.operators)

    def _waits(self, words: Sequence[str]) -> None:
        self._services.admission.started(self._run.run_id)
        self._status.move("waiting", waiting_for=words)

    async def _unless_ended(self, work: Awaitable[T]) -> T:
        """Returns the result of `work`. Raises RunCancelled or RunSuperseded when the run is to end first."""
        task = asyncio.ensure_future(work)
        ended = asyncio.ensure_future(self._services.cancellations.wait(self._run.run_id))
        try:
            await asyncio.wait({task, ended}, return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                self._services.cancellations.check(self._run.run_id)
            return await task
        finally:
            ended.cancel()
            task.cancel()
