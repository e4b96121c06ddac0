"""Resolves an accepted drop to what it asks for: its manifest or its trigger's template, with the folders' defaults."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from gpu_dispatch.net.retries import TRANSFER
from gpu_dispatch.task import TaskInput
from gpu_dispatch.transfer.limits import TransferLimits
from gpu_dispatch.transfer.transfer import Transfer
from listener.fairness import turn_of
from listener.processes.parsers import LARGE, DocumentParsers
from listener.run_request import REDRIVE, RunRequest
from listener.runs.defaults import MAX_BYTES as MAX_DEFAULTS_BYTES
from listener.runs.defaults import MAX_LEVELS, MAX_TOGETHER, REFUSED_S, DefaultsReader, Refusals
from listener.stores.base import Store, StoredObject
from listener.triggers.triggers import Trigger
from manifests.callback_urls import callback_url_of, caller_fields, default_caller_fields
from manifests.defaults import EVERY_FOLDER, Defaults, DefaultsFolders, check_folder_defaults
from manifests.errors import (
    DocumentTooCostly,
    InputTooLarge,
    ManifestTooDeep,
    ManifestTooLarge,
    ObjectDenied,
    RunCancelled,
    RunSuperseded,
    UnusableKey,
)
from manifests.models import Manifest
from manifests.names import defaults_keys
from manifests.reader import SourcedManifest, filled_template, from_template, read_sourced, template_sourced
from manifests.references import ObjectRef
from manifests.syntax import MAX_BYTES
from manifests.trees import decode_document

_FETCHES = 16
"""Documents of defaults that are fetched at once, by all runs together."""


@dataclass(frozen=True, slots=True)
class ResolvedManifest:
    """A manifest with its defaults, validated, in a form that the engine can record."""

    operation: str
    fields: dict[str, Any]
    text: str | None
    """The document; None for bare media."""
    operators: tuple[str, ...] = ()
    """Fields that the operator's template or configuration set: they may lead anywhere."""

    @property
    def metadata(self) -> Mapping[str, Any]:
        return self.fields.get("metadata") or {}

    @property
    def callback_url(self) -> str | None:
        return self.fields.get("callback_url")


class ManifestReader:
    """Reads and resolves the manifests of runs."""

    def __init__(
        self,
        store: Store,
        models: Mapping[str, type[Manifest]],
        defaults: Sequence[Defaults],
        *,
        folders: DefaultsFolders = EVERY_FOLDER,
        parsers: DocumentParsers | None = None,
    ) -> None:
        """`defaults` are the configuration's, below those of every folder; `folders` says which folders' defaults
        apply."""
        self._parsers = parsers or DocumentParsers()
        self._folder = DefaultsReader(models, self._parsers)
        self._fetches = asyncio.Semaphore(_FETCHES)
        self._store = store
        self._models = models
        self._defaults = tuple(defaults)
        self._folders = folders
        self._refusals = Refusals(store)

    async def read(self, run: RunRequest) -> ResolvedManifest:
        """Returns what the run's own version asks for. Raises ManifestError and related errors, RunCancelled and
        RunSuperseded."""
        template = run.trigger.manifest
        if template is not None:
            await self._check_there(run)
            sourced = template_sourced(
                template,
                key=run.key,
                source=_source(run.trigger),
                models=self._models,
                defaults=await self._folder_defaults(run),
            )
            return _resolved(sourced, None, self._operators(run))
        data = await self._own_document(run)
        if len(data) < LARGE:
            return await self._resolve(data, run, await self._folder_defaults(run))
        # Not kept in memory while it waits for its turn: it is read again then.
        size, data = len(data), b""
        defaults = await self._folder_defaults(run)
        async with self._parsers.slot(size, turn_of(run.bucket, run.key)):
            return await self._resolve(await self._own_document(run), run, defaults)

    async def _resolve(self, data: bytes, run: RunRequest, defaults: Sequence[Defaults]) -> ResolvedManifest:
        sourced = await self._parsers.run(
            len(data), read_sourced, data, run.key, models=self._models, defaults=defaults
        )
        return _resolved(sourced, decode_document(data, run.key), self._operators(run))

    async def callback_url(self, run: RunRequest) -> str | None:
        """Returns the callback URL of a drop that was refused before it was resolved; None: it has none, or the drop is
        gone."""
        template = run.trigger.manifest
        try:
            if template is not None:
                manifest = filled_template(template, run.key)
            else:
                async with self._parsers.slot(None, turn_of(run.bucket, run.key)):
                    manifest = await self._fields(caller_fields, run.key, self._own_document(run))
        except (RunCancelled, RunSuperseded):
            return None
        defaults: list[Mapping[str, Any]] = [{**each.sections, **each.fields} for each in self._defaults]
        keys = self._keys(run)
        if len(keys) <= MAX_LEVELS + 1:
            keys = [key for key in keys if self._may_address(run, key)]
            defaults += [
                await self._fields(default_caller_fields, key, self._folder_document(run, key)) for key in keys
            ]
        return callback_url_of(manifest, defaults)

    async def _fields(
        self, read_caller: Callable[[bytes, str], Mapping[str, Any]], key: str, reading: Awaitable[bytes | None]
    ) -> Mapping[str, Any]:
        """Returns what `read_caller` finds in the document at `key`, which `reading` gives; {} if it cannot be read."""
        try:
            data = await reading
            return await self._parsers.run(len(data), read_caller, data, key) if data is not None else {}
        except (ManifestTooLarge, ObjectDenied, UnusableKey, DocumentTooCostly):
            return {}

    async def _folder_defaults(self, run: RunRequest) -> tuple[Defaults, ...]:
        found = list(self._defaults)
        keys, together = self._keys(run), 0
        if len(keys) > MAX_LEVELS + 1:
            raise ManifestTooDeep(
                f"{run.key!r} lies in more than {MAX_LEVELS} folders, one in another.",
                hint="Defaults are looked for in all of them: drop it less deep.",
                where=run.key,
            )
        for key in keys:
            data = await self._folder_document(run, key)
            if data is not None:
                together += len(data)
                if together > MAX_TOGETHER:
                    raise ManifestTooLarge(
                        f"The defaults of {run.folder!r} and of those above it have more than {MAX_TOGETHER:,} bytes.",
                        hint="Leave out what is said twice.",
                        where=key,
                    )
                document = await self._folder.read(data, key)
                check_folder_defaults(document, key, addresses=self._may_address(run, key))
                found.append(document)
        return tuple(found)

    def _operators(self, run: RunRequest) -> frozenset[str]:
        """Returns the names of the sources that are the operator's."""
        return frozenset({_source(run.trigger), *(document.source for document in self._defaults)})

    def _keys(self, run: RunRequest) -> Sequence[str]:
        """Returns the keys of defaults that apply: in listed folders; if none are listed, in those that the drop
        reaches."""
        keys = [key for key in defaults_keys(run.key) if self._folders.count(run.bucket, key)]
        if self._folders.listed is not None:
            return keys
        drop = ObjectRef(run.bucket, run.key)
        return [key for key in keys if run.trigger.reach.covers(drop, run.bucket, key)]

    def _may_address(self, run: RunRequest, key: str) -> bool:
        return self._folders.may_address(run.bucket, key)

    async def _folder_document(self, run: RunRequest, key: str) -> bytes | None:
        """Returns a document of defaults. Raises ObjectDenied when it is refused and the drop is not."""
        drop = ObjectRef(run.bucket, run.key)
        return await self._refusals.outlasted(partial(self._defaults_at, run.bucket, key), drop, REFUSED_S)

    async def _own_document(self, run: RunRequest) -> bytes:
        found = await self._stored(run.bucket, run.key, MAX_BYTES, "a manifest")
        if found is None:
            raise _removed(run)
        if not found.meta.may_be(run.version):
            await self._check_there(run)
        return found.content

    async def _check_there(self, run: RunRequest) -> None:
        """Raises RunCancelled when the drop is gone, and RunSuperseded when a newer version is there: that one has a
        run of its own, which would do the same work once more. A redriven run takes what there is."""
        now = await self._store.head(run.bucket, run.key)
        if now is None:
            raise _removed(run)
        newer = not now.may_be(run.version) and now.last_modified.timestamp() >= run.object_time
        if newer and run.source != REDRIVE:
            raise RunSuperseded(f"A newer version of {run.key!r} lies there.", hint="See the newer run.")

    async def _defaults_at(self, bucket: str, key: str) -> bytes | None:
        async with self._fetches:
            found = await self._stored(bucket, key, MAX_DEFAULTS_BYTES, "a folder's defaults")
        return found.content if found else None

    async def _stored(self, bucket: str, key: str, max_bytes: int, what: str) -> StoredObject | None:
        try:
            return await self._store.get(bucket, key, max_bytes=max_bytes)
        except InputTooLarge as e:
            raise ManifestTooLarge(
                f"{key!r} is larger than {max_bytes:,} bytes, the most {what} may have.",
                hint="A manifest names its media, it does not hold them: put them beside it.",
                where=key,
            ) from e


def check_templates(
    triggers: Sequence[Trigger], models: Mapping[str, type[Manifest]], defaults: Sequence[Defaults]
) -> None:
    """Makes a manifest of every trigger's template once, so that a bad one is reported at the start and not at a drop.
    Raises ManifestError and related errors, naming the trigger."""
    for trigger in triggers:
        if trigger.manifest is not None:
            from_template(
                trigger.manifest,
                key="folder/sample.ext",
                source=_source(trigger),
                models=models,
                defaults=defaults,
            )


def _removed(run: RunRequest) -> RunCancelled:
    return RunCancelled(f"{run.key!r} was removed before its run began.", hint="Drop it again.")


def _source(trigger: Trigger) -> str:
    return f"config.yaml: triggers.{trigger.name}"


def _resolved(sourced: SourcedManifest, text: str | None, of_operator: frozenset[str]) -> ResolvedManifest:
    fields = sourced.manifest.model_dump(mode="json")
    operators = tuple(sorted(name for name, source in sourced.origins.items() if source in of_operator))
    return ResolvedManifest(operation=str(fields["operation"]), fields=fields, text=text, operators=operators)


LIMITS = TransferLimits(total_s=120.0, retries=replace(TRANSFER, attempts=4))


class DocumentFetcher:
    """Downloads documents that manifests name by URL."""

    def __init__(self, private_hosts: frozenset[str]) -> None:
        """`private_hosts` may be contacted although their addresses are private."""
        self._trusted = tuple(sorted(private_hosts))

    async def read(self, url: str, *, role: str, max_bytes: int) -> bytes:
        """Returns the document at `url`. Raises InputMissing, InputDenied, InputEmpty, InputTooLarge, AddressNotAllowed
        or TransferFailed."""
        with tempfile.TemporaryDirectory(prefix="gpudrop-") as folder:
            path = Path(folder) / "document"
            async with Transfer(
                file_root=None, trusted_hosts=self._trusted, max_input_bytes=max_bytes, limits=LIMITS
            ) as transfer:
                await transfer.download(TaskInput(role, url), path, lambda _: None)
            return await asyncio.to_thread(path.read_bytes)
