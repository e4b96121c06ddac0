"""What would change on the server. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from listener.bucket_events.entries import EVENT_BRIDGE, NotificationDocument, RuleEntry


@dataclass(frozen=True, slots=True)
class RulesChange:
    """From `before` to `after`. `changed` are pairs of old and new under one Id."""

    before: NotificationDocument
    after: NotificationDocument
    added: tuple[RuleEntry, ...] = ()
    removed: tuple[RuleEntry, ...] = ()
    changed: tuple[tuple[RuleEntry, RuleEntry], ...] = ()

    def __bool__(self) -> bool:
        return self.before != self.after


def merge_rules(current: NotificationDocument, wanted: Sequence[RuleEntry]) -> RulesChange:
    """Ours become `wanted`; rules of others stay, in their order. Those of ours that mean what is wanted stay too."""
    pending = list(wanted)
    after: list[RuleEntry] = []
    removed: list[RuleEntry] = []
    changed: list[tuple[RuleEntry, RuleEntry]] = []
    for entry in current.entries:
        same = next((each for each in pending if each.means(entry)), None)
        if not entry.ours:
            after.append(entry)
            if entry.kind == EVENT_BRIDGE and same:
                pending.remove(same)
        elif same:
            after.append(entry)
            pending.remove(same)
        elif named := next((each for each in pending if each.id == entry.id), None):
            after.append(named)
            changed.append((entry, named))
            pending.remove(named)
        else:
            removed.append(entry)
    return RulesChange(
        current, NotificationDocument((*after, *pending)), tuple(pending), tuple(removed), tuple(changed)
    )


def without_ours(current: NotificationDocument, *, event_bridge: bool = False) -> RulesChange:
    """`event_bridge`: that entry goes too, whoever put it there."""
    removed = tuple(e for e in current.entries if e.ours or (event_bridge and e.kind == EVENT_BRIDGE))
    return RulesChange(
        current, NotificationDocument(tuple(e for e in current.entries if e not in removed)), removed=removed
    )


def arrived(change: RulesChange, found: NotificationDocument) -> bool:
    """Whether `found` is what was written; servers may order and spell it their own way."""
    left = list(found.entries)
    for entry in change.after.entries:
        same = next((each for each in left if each.id == entry.id and each.means(entry)), None)
        same = same or next((each for each in left if not entry.ours and each.xml == entry.xml), None)
        if same is None:
            return False
        left.remove(same)
    return not left
