"""Triggers, and what an event leads to: a run, the end of one, or nothing. Pure: callers ask the store and ledger."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from os.path import commonprefix
from typing import Any

from listener.triggers.globs import ends_with, literal_prefixes, matches_any, shortest
from manifests.keys import key_problem
from manifests.media_names import MediaKind, is_media
from manifests.names import MANIFEST_SUFFIXES, cancel_target, is_manifest, is_reserved
from manifests.references import WHOLE_BUCKET, Reach

MAX_PREFIXES = 32
"""Most prefixes below which a bucket is listed: each costs a request at least."""


@dataclass(frozen=True, slots=True)
class Trigger:
    """Which keys start runs. All conditions must hold; an empty one always does."""

    name: str
    buckets: tuple[str, ...] = ()
    prefix: str = ""
    suffix: str = ""
    patterns: tuple[str, ...] = ()
    """Globs over the whole key (see `listener.triggers.globs`), of which one must match."""
    exclude: tuple[str, ...] = ()
    """Globs over the whole key, of which none may match."""
    media: tuple[MediaKind, ...] = ()
    """Kinds of files, by their extensions, of which the key must be one."""
    manifest: Mapping[str, Any] | None = None
    """Template of the manifest that a media file stands for; None: the keys are manifests themselves."""
    chain: bool = False
    """Whether outputs of runs may start runs."""
    max_attempts: int = 3
    max_event_age_s: float = 21600.0
    wait_for_inputs_s: float = 600.0
    budget_per_day: float | None = None
    """US dollars its runs may cost in a day (UTC) before others wait for the next day; None: no limit."""
    reach: Reach = WHOLE_BUCKET
    """What its drops may name; it does not bind what the operator has configured."""

    def covers(self, bucket: str, key: str) -> bool:
        return (
            (not self.buckets or bucket in self.buckets)
            and key.startswith(self.prefix)
            and ends_with(key, self.suffix)
            and (not self.media or is_media(key, self.media))
            and (not self.patterns or matches_any(self.patterns, key))
            and not (self.exclude and matches_any(self.exclude, key))
        )


MANIFESTS = Trigger(name="manifests")
"""Starts a run for every manifest, in any bucket and folder. Without a trigger of this kind manifests start none."""


@dataclass(frozen=True, slots=True)
class Match:
    trigger: Trigger


@dataclass(frozen=True, slots=True)
class CancelRequest:
    """The key asks to cancel a drop's runs."""

    target: str
    """The drop's folder and name: "a/talk" for "a/talk.cancel"."""


@dataclass(frozen=True, slots=True)
class IgnoredEvent:
    reason: str
    unmatched: bool = False
    """Whether a trigger could take the object, and none does."""


class TriggerBook:
    """The triggers in force; a changed configuration replaces them while the listener runs."""

    def __init__(self, triggers: Sequence[Trigger]) -> None:
        self._triggers = tuple(triggers)
        self._watching: list[Callable[[], None]] = []

    @property
    def triggers(self) -> tuple[Trigger, ...]:
        return self._triggers

    def use(self, triggers: Sequence[Trigger]) -> None:
        self._triggers = tuple(triggers)
        for listener in self._watching:
            listener()

    def watch(self, listener: Callable[[], None]) -> None:
        """Calls `listener` whenever other triggers come into force."""
        self._watching.append(listener)

    def match(self, bucket: str, key: str) -> Match | CancelRequest | IgnoredEvent:
        return match_event(self._triggers, bucket, key)

    def interesting(self, bucket: str, key: str) -> bool:
        """Returns whether an object with this key could start or cancel a run."""
        return not isinstance(self.match(bucket, key), IgnoredEvent)

    def prefixes(self, bucket: str) -> tuple[str, ...]:
        return prefixes(self._triggers, bucket)


def match_event(triggers: Sequence[Trigger], bucket: str, key: str) -> Match | CancelRequest | IgnoredEvent:
    """Returns the first trigger that covers `key`, a request to cancel, or why the key is no drop."""
    if problem := key_problem(key):
        return IgnoredEvent(f"the key {problem}")
    if is_reserved(key):
        return IgnoredEvent("the key is reserved")
    if any(segment.startswith(".") for segment in key.split("/")):
        return IgnoredEvent("the file is hidden")
    if target := cancel_target(key):
        return CancelRequest(target)
    manifest = is_manifest(key)
    for trigger in triggers:
        if (trigger.manifest is None) is manifest and trigger.covers(bucket, key):
            return Match(trigger)
    return IgnoredEvent("no trigger takes manifests here" if manifest else "no trigger matches", unmatched=True)


def prefixes(triggers: Sequence[Trigger], bucket: str) -> tuple[str, ...]:
    """Returns prefixes of every key of `bucket` that could start a run or cancel one of these triggers' runs.

    They are as few as possible: ("",) for the whole bucket, () when no key in it is of interest. Folder defaults need
    not lie below them; they are read by name.
    """
    found: set[str] = set()
    for trigger in triggers:
        if trigger.buckets and bucket not in trigger.buckets:
            continue
        for literal in literal_prefixes(trigger.patterns) if trigger.patterns else ("",):
            if literal.startswith(trigger.prefix):
                start = literal
            elif trigger.prefix.startswith(literal):
                start = trigger.prefix
            else:
                continue
            found.add(start if trigger.manifest is not None else _without_suffix(start))
    few = shortest(found)
    return few if len(few) <= MAX_PREFIXES else (commonprefix(few),)  # noqa: RUF071 - characters are meant, not folders


def _without_suffix(start: str) -> str:
    """Returns `start` without what may belong to a manifest's suffix: "a/talk.cancel" cancels "a/talk.job.yaml"."""
    low = start.lower()
    ends = (n for s in MANIFEST_SUFFIXES for n in range(1, len(s) + 1) if low.endswith(s[:n]))
    return start[: len(start) - max(ends, default=0)]


@dataclass(frozen=True, slots=True)
class WrittenKeys:
    """What the ledger knows of a key that a run wrote."""

    run_id: str
    lineage: int
    version: str
    """ "" from the intent to write until the version is known."""


@dataclass(frozen=True, slots=True)
class StartRun:
    """The object may start a run."""

    lineage: int
    """Number of runs whose outputs led to it: 0 for a user's drop."""


@dataclass(frozen=True, slots=True)
class SkipEvent:
    reason: str


def guard_loop(
    written: WrittenKeys | None, *, version: str, metadata_run_id: str, chain: bool, max_lineage: int = 4
) -> StartRun | SkipEvent:
    """Decides whether an object may start a run, so that outputs do not start runs without end.

    `version` is the object's own, in the form of `written.version`; `metadata_run_id` is the run that its metadata
    names as its writer, "" where it names none. An output that a user has overwritten is a drop like any other.

    A ledger can be lost, and a process can die between writing and recording: so an output whose writing was announced
    counts (its version is ""), and so does the writer in the metadata. A writer unknown to the ledger is never chained,
    since the length of its chain is unknown. A copy of an output that keeps its metadata starts nothing; one without,
    or an upload of it, does. Stores without metadata rely on the ledger alone.
    """
    if written is not None and written.version in ("", version):
        return _chained(written, chain=chain, max_lineage=max_lineage)
    if not metadata_run_id:
        return StartRun(0)
    if written is not None and written.run_id == metadata_run_id:
        return _chained(written, chain=chain, max_lineage=max_lineage)
    return SkipEvent(f"run {metadata_run_id} wrote it, of which nothing is recorded for this key")


def _chained(written: WrittenKeys, *, chain: bool, max_lineage: int) -> StartRun | SkipEvent:
    lineage = written.lineage + 1
    if not chain:
        return SkipEvent(f"run {written.run_id} wrote it, and the trigger does not chain")
    if lineage > max_lineage:
        return SkipEvent(f"run {written.run_id} wrote it, and the chain would be longer than {max_lineage} runs")
    return StartRun(lineage)
