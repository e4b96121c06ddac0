"""What an event leads to: a run, the end of one, or nothing. Pure: the caller knows the objects and the ledger."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from listener.patterns import matches
from manifests.keys import key_problem
from manifests.names import cancel_target, is_manifest, is_reserved


@dataclass(frozen=True, slots=True)
class Trigger:
    """Which keys start runs. All conditions must hold; an empty one always does.

    `manifest` is the template of the manifest a media file stands for; None: the keys are manifests themselves.
    `patterns` and `exclude` are globs over the whole key (see `patterns`). `chain`: outputs of runs may start runs.
    """

    name: str
    buckets: tuple[str, ...] = ()
    prefix: str = ""
    suffix: str = ""
    patterns: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    manifest: Mapping[str, Any] | None = None
    chain: bool = False
    max_attempts: int = 3
    max_event_age_s: float = 21600.0
    wait_for_inputs_s: float = 600.0

    def covers(self, bucket: str, key: str) -> bool:
        return (
            (not self.buckets or bucket in self.buckets)
            and key.startswith(self.prefix)
            and key.endswith(self.suffix)
            and (not self.patterns or matches(self.patterns, key))
            and not (self.exclude and matches(self.exclude, key))
        )


MANIFESTS = Trigger(name="manifests")
"""Manifests start runs wherever they land. Without a trigger of its kind they start none."""


@dataclass(frozen=True, slots=True)
class Match:
    trigger: Trigger


@dataclass(frozen=True, slots=True)
class CancelRequest:
    """`target` is the drop's folder and name: "a/talk" for "a/talk.cancel"."""

    target: str


@dataclass(frozen=True, slots=True)
class Ignored:
    reason: str


class TriggerBook:
    """The triggers in force; a changed configuration replaces them while everything runs."""

    def __init__(self, triggers: Sequence[Trigger]) -> None:
        self._triggers = tuple(triggers)

    def use(self, triggers: Sequence[Trigger]) -> None:
        self._triggers = tuple(triggers)

    def match(self, bucket: str, key: str) -> Match | CancelRequest | Ignored:
        return match(self._triggers, bucket, key)

    def interesting(self, bucket: str, key: str) -> bool:
        """Whether an object called `key` could start or end anything."""
        return not isinstance(self.match(bucket, key), Ignored)


def match(triggers: Sequence[Trigger], bucket: str, key: str) -> Match | CancelRequest | Ignored:
    """The first trigger that covers `key`, unless its name says that it is none of a user's drops."""
    if problem := key_problem(key):
        return Ignored(f"the key {problem}")
    if is_reserved(key):
        return Ignored("the key is reserved")
    if any(segment.startswith(".") for segment in key.split("/")):
        return Ignored("the file is hidden")
    if target := cancel_target(key):
        return CancelRequest(target)
    manifest = is_manifest(key)
    for trigger in triggers:
        if (trigger.manifest is None) is manifest and trigger.covers(bucket, key):
            return Match(trigger)
    return Ignored("no trigger takes manifests here" if manifest else "no trigger matches")


@dataclass(frozen=True, slots=True)
class Written:
    """What the ledger knows of a key that a run wrote. `version` is "" from the intent to write until it is known."""

    run_id: str
    lineage: int
    version: str


@dataclass(frozen=True, slots=True)
class Start:
    """`lineage` counts the runs whose outputs led here: 0 for a user's drop."""

    lineage: int


@dataclass(frozen=True, slots=True)
class Skip:
    reason: str


def guard_loop(
    written: Written | None, *, version: str, metadata_run_id: str, chain: bool, max_lineage: int = 4
) -> Start | Skip:
    """Whether an object may start a run, so that no output starts one for ever.

    `version` is the object's own, told as `written.version` tells it; `metadata_run_id` the run its metadata names as
    its writer, "" where it names none. An output that a user has overwritten since is a drop like any other.
    """
    if written is not None and written.version in ("", version):
        return _chained(written, chain=chain, max_lineage=max_lineage)
    if not metadata_run_id:
        return Start(0)
    if written is not None and written.run_id == metadata_run_id:
        return _chained(written, chain=chain, max_lineage=max_lineage)
    return Skip(f"run {metadata_run_id} wrote it, of which nothing is recorded for this key")


def _chained(written: Written, *, chain: bool, max_lineage: int) -> Start | Skip:
    lineage = written.lineage + 1
    if not chain:
        return Skip(f"run {written.run_id} wrote it, and the trigger does not chain")
    if lineage > max_lineage:
        return Skip(f"run {written.run_id} wrote it, and the chain would be longer than {max_lineage} runs")
    return Start(lineage)
