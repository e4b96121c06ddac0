"""From an accepted drop to what it asks for: the manifest or the trigger's template, with the folders' defaults."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from listener.runs.refusals import REFUSED_S, Refusals
from listener.runs.request import REDRIVE, RunRequest
from listener.store import Store, StoredObject
from listener.triggers import Trigger
from manifests.callback_urls import callback_url_of, fields_or_none
from manifests.defaults import Defaults, read_defaults
from manifests.errors import InputTooLarge, ManifestTooLarge, ObjectDenied, RunCancelled, RunSuperseded, UnusableKey
from manifests.folder_defaults import EVERY_FOLDER, DefaultsFolders, check_folder_defaults
from manifests.media import ObjectRef
from manifests.models import Manifest
from manifests.names import defaults_keys
from manifests.reader import Sourced, filled_template, from_template, read_sourced, template_sourced
from manifests.syntax import MAX_BYTES
from manifests.tree import decode


@dataclass(frozen=True, slots=True)
class Asked:
    """A manifest as it was understood, in a form the engine can keep. `text` is the document; None for bare media."""

    operation: str
    fields: dict[str, Any]
    text: str | None
    operators: tuple[str, ...] = ()
    """Fields that the operator's own template or configuration gave: they lead wherever they say."""

    @property
    def metadata(self) -> Mapping[str, Any]:
        return self.fields.get("metadata") or {}

    @property
    def callback_url(self) -> str | None:
        return self.fields.get("callback_url")


class ManifestReader:
    def __init__(
        self,
        store: Store,
        models: Mapping[str, type[Manifest]],
        defaults: Sequence[Defaults],
        folders: DefaultsFolders = EVERY_FOLDER,
    ) -> None:
        """`defaults` are the configuration's, below those of every folder; `folders` tells which folders' count."""
        self._store = store
        self._models = models
        self._defaults = tuple(defaults)
        self._folders = folders
        self._refusals = Refusals(store)

    async def read(self, run: RunRequest) -> Asked:
        """What the run's own version asks for. Raises ManifestError and its kin, RunCancelled and RunSuperseded."""
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
            return _asked(sourced, None, self._operators(run))
        data = await self._own_document(run)
        defaults = await self._folder_defaults(run)
        sourced = await asyncio.to_thread(read_sourced, data, run.key, models=self._models, defaults=defaults)
        return _asked(sourced, decode(data, run.key), self._operators(run))

    async def callback_url(self, run: RunRequest) -> str | None:
        """Who is to hear of a drop that was refused before it was understood; None: nobody, or it is not there now."""
        template = run.trigger.manifest
        try:
            if template is not None:
                manifest = filled_template(template, run.key)
            else:
                manifest = await self._fields(run.key, self._own_document(run))
        except (RunCancelled, RunSuperseded):
            return None
        defaults: list[Mapping[str, Any]] = [{**each.sections, **each.fields} for each in self._defaults]
        keys = [key for key in self._keys(run) if self._may_address(run, key)]
        defaults += [await self._fields(key, self._beside(run, key)) for key in keys]
        return callback_url_of(manifest, defaults)

    async def _fields(self, key: str, reading: Awaitable[bytes | None]) -> Mapping[str, Any]:
        """What the document at `key`, which `reading` gives, holds; {} where it cannot be read."""
        try:
            data = await reading
        except (ManifestTooLarge, ObjectDenied, UnusableKey):
            return {}
        return await asyncio.to_thread(fields_or_none, data, key) if data is not None else {}

    async def _folder_defaults(self, run: RunRequest) -> tuple[Defaults, ...]:
        found = list(self._defaults)
        for key in self._keys(run):
            data = await self._beside(run, key)
            if data is not None:
                document = read_defaults(data, key, models=self._models)
                check_folder_defaults(document, key, addresses=self._may_address(run, key))
                found.append(document)
        return tuple(found)

    def _operators(self, run: RunRequest) -> frozenset[str]:
        """The sources that are the operator's own word."""
        return frozenset({_source(run.trigger), *(document.source for document in self._defaults)})

    def _keys(self, run: RunRequest) -> Sequence[str]:
        """Where defaults lie that count: in listed folders; where none are listed, in those that the drop reaches."""
        keys = [key for key in defaults_keys(run.key) if self._folders.count(run.bucket, key)]
        if self._folders.listed is not None:
            return keys
        drop = ObjectRef(run.bucket, run.key)
        return [key for key in keys if run.trigger.reach.covers(drop, run.bucket, key)]

    def _may_address(self, run: RunRequest, key: str) -> bool:
        return self._folders.may_address(run.bucket, key)

    async def _beside(self, run: RunRequest, key: str) -> bytes | None:
        """A document that may be refused while the drop is not. Raises ObjectDenied then."""
        drop = ObjectRef(run.bucket, run.key)
        return await self._refusals.outlasted(partial(self._document, run.bucket, key), drop, REFUSED_S)

    async def _own_document(self, run: RunRequest) -> bytes:
        found = await self._stored(run.bucket, run.key)
        if found is None:
            raise _removed(run)
        if not found.meta.may_be(run.version):
            await self._check_there(run)
        return found.content

    async def _check_there(self, run: RunRequest) -> None:
        """Raises RunCancelled when the drop is gone, RunSuperseded when a newer version lies there: it has a run of its
        own, which would do the same work once more. A run that is driven again takes what there is.
        """
        now = await self._store.head(run.bucket, run.key)
        if now is None:
            raise _removed(run)
        newer = not now.may_be(run.version) and now.last_modified.timestamp() >= run.object_time
        if newer and run.source != REDRIVE:
            raise RunSuperseded(f"A newer version of {run.key!r} lies there.", hint="See the newer run.")

    async def _document(self, bucket: str, key: str) -> bytes | None:
        found = await self._stored(bucket, key)
        return found.content if found else None

    async def _stored(self, bucket: str, key: str) -> StoredObject | None:
        try:
            return await self._store.get(bucket, key, max_bytes=MAX_BYTES)
        except InputTooLarge as e:
            raise ManifestTooLarge(
                f"{key!r} is larger than {MAX_BYTES:,} bytes, the most a manifest may have.",
                hint="A manifest names its media, it does not hold them: put them beside it.",
            ) from e


def check_templates(
    triggers: Sequence[Trigger], models: Mapping[str, type[Manifest]], defaults: Sequence[Defaults]
) -> None:
    """Makes a manifest of every trigger's template once, so that a bad one is told at the start and not at a drop.

    Raises ManifestError and its kin, naming the trigger.
    """
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


def _asked(sourced: Sourced, text: str | None, of_operator: frozenset[str]) -> Asked:
    fields = sourced.manifest.model_dump(mode="json")
    operators = tuple(sorted(name for name, source in sourced.origins.items() if source in of_operator))
    return Asked(operation=str(fields["operation"]), fields=fields, text=text, operators=operators)
