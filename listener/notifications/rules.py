"""A bucket's notification configuration: its entries, of which ours may be few, and changes of it. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from xml.etree import ElementTree as Xml

from listener.triggers.filters import EVERYTHING, Filter
from manifests.errors import ServerMisbehaves

OURS = "gpudrop-"
"""The prefix of our rules' Ids."""

NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"
QUEUE, TOPIC, FUNCTION, EVENT_BRIDGE = (
    f"{what}Configuration" for what in ("Queue", "Topic", "CloudFunction", "EventBridge")
)
_TARGET_TAGS = {QUEUE: "Queue", TOPIC: "Topic", FUNCTION: "CloudFunction"}
_ALL = {
    "s3:ObjectCreated:*": ("Put", "Post", "Copy", "CompleteMultipartUpload"),
    "s3:ObjectRemoved:*": ("Delete", "DeleteMarkerCreated"),
}


@dataclass(frozen=True, slots=True)
class RuleEntry:
    """One entry of the configuration."""

    kind: str
    """Name of its element."""
    xml: str
    """The whole element, additions of others included."""
    id: str = ""
    arn: str = ""
    events: tuple[str, ...] = ()
    filter: Filter = EVERYTHING[0]
    """Prefix and suffix as they stand in the rule."""

    @property
    def ours(self) -> bool:
        return self.kind in (QUEUE, TOPIC) and self.id.startswith(OURS)

    def means(self, other: RuleEntry) -> bool:
        """Returns whether both send the same events of the same keys to the same target, wildcards expanded."""
        return (self.kind, self.arn, self.filter, expand_events(self.events)) == (
            other.kind,
            other.arn,
            other.filter,
            expand_events(other.events),
        )


@dataclass(frozen=True, slots=True)
class NotificationDocument:
    """A bucket's notification configuration."""

    entries: tuple[RuleEntry, ...] = ()
    """In the server's order."""

    @property
    def ours(self) -> tuple[RuleEntry, ...]:
        return tuple(each for each in self.entries if each.ours)

    @property
    def foreign(self) -> tuple[RuleEntry, ...]:
        return tuple(each for each in self.entries if not each.ours)


def expand_events(events: tuple[str, ...]) -> frozenset[str]:
    """Expands wildcards in `events` as Amazon does."""
    return frozenset(
        name
        for event in events
        for name in ([event.replace("*", each) for each in _ALL[event]] if event in _ALL else [event])
    )


def rule(kind: str, arn: str, rule_id: str, events: tuple[str, ...], key_filter: Filter) -> RuleEntry:
    """Builds a rule of ours; `kind` is QUEUE or TOPIC."""
    root = Xml.Element(kind)
    Xml.SubElement(root, "Id").text = rule_id
    Xml.SubElement(root, _TARGET_TAGS[kind]).text = arn
    for event in events:
        Xml.SubElement(root, "Event").text = event
    values = [(n, v) for n, v in (("prefix", key_filter.prefix), ("suffix", key_filter.suffix)) if v]
    if values:
        keys = Xml.SubElement(Xml.SubElement(root, "Filter"), "S3Key")
        for name, value in values:
            each = Xml.SubElement(keys, "FilterRule")
            Xml.SubElement(each, "Name").text = name
            Xml.SubElement(each, "Value").text = value
    return RuleEntry(kind, Xml.tostring(root, "unicode"), rule_id, arn, events, key_filter)


def event_bridge() -> RuleEntry:
    """Builds the entry that sends all events of the bucket to Amazon EventBridge. It has no Id, so no known owner."""
    return RuleEntry(EVENT_BRIDGE, f"<{EVENT_BRIDGE} />")


def read_notification_document(data: bytes) -> NotificationDocument:
    """Parses the response to GET ?notification. Raises ServerMisbehaves when it is not XML."""
    try:
        # expat itself limits what entities may grow to.
        root = Xml.fromstring(data.strip() or b"<NotificationConfiguration/>")  # noqa: S314
    except Xml.ParseError as e:
        raise ServerMisbehaves(
            "The server's answer about notifications is not XML.",
            hint="Check that store.endpoint is the S3 endpoint itself, not a console.",
        ) from e
    for each in root.iter():
        each.tag = each.tag.removeprefix(f"{{{NAMESPACE}}}")
        each.tail = None
    return NotificationDocument(tuple(_entry(child) for child in root if child.tag.endswith("Configuration")))


def notification_document_bytes(entries: tuple[RuleEntry, ...]) -> bytes:
    inner = "".join(each.xml for each in entries)
    return f'<NotificationConfiguration xmlns="{NAMESPACE}">{inner}</NotificationConfiguration>'.encode()


def _entry(element: Xml.Element) -> RuleEntry:
    found = {
        (rule.findtext("Name") or "").lower(): rule.findtext("Value") or ""
        for rule in element.iterfind("Filter/S3Key/FilterRule")
    }
    return RuleEntry(
        kind=element.tag,
        xml=Xml.tostring(element, "unicode"),
        id=element.findtext("Id") or "",
        arn=element.findtext(_TARGET_TAGS.get(element.tag, "Queue")) or "",
        events=tuple(each.text or "" for each in element.iterfind("Event")),
        filter=Filter(found.get("prefix", ""), found.get("suffix", "")),
    )


@dataclass(frozen=True, slots=True)
class RulesChange:
    """The difference between two configurations."""

    before: NotificationDocument
    after: NotificationDocument
    added: tuple[RuleEntry, ...] = ()
    removed: tuple[RuleEntry, ...] = ()
    changed: tuple[tuple[RuleEntry, RuleEntry], ...] = ()
    """Pairs of old and new entry under one Id."""

    def __bool__(self) -> bool:
        return self.before != self.after


def merge_rules(current: NotificationDocument, wanted: Sequence[RuleEntry]) -> RulesChange:
    """Replaces our rules by `wanted`. Rules of others stay in their order, as do ours that mean the same as wanted."""
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
    """Removes our rules, and with `event_bridge` EventBridge's entry, whose owner is unknown."""
    removed = tuple(e for e in current.entries if e.ours or (event_bridge and e.kind == EVENT_BRIDGE))
    return RulesChange(
        current, NotificationDocument(tuple(e for e in current.entries if e not in removed)), removed=removed
    )


def is_applied(change: RulesChange, found: NotificationDocument) -> bool:
    """Returns whether `found` means what was written; servers may order and spell it differently."""
    left = list(found.entries)
    for entry in change.after.entries:
        same = next((each for each in left if each.id == entry.id and each.means(entry)), None)
        same = same or next((each for each in left if not entry.ours and each.xml == entry.xml), None)
        if same is None:
            return False
        left.remove(same)
    return not left
