"""Rules and changes as lines of text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.text import Text

from listener.notifications.rules import EVENT_BRIDGE, NotificationDocument, RuleEntry, RulesChange
from listener.notifications.targets import decoded_filter

_STYLES = {"+": "green", "-": "red", "~": "yellow", "f": "dim"}


class RulesRenderer:
    """Prints rules and changes; plain where the output is no terminal, and without cutting or wrapping lines."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def say(self, text: str, *, mark: str = "") -> None:
        self._console.print(Text(text, style=_STYLES.get(mark, "")), soft_wrap=True)

    def bucket(self, bucket: str, server: str) -> None:
        self.say(f"bucket {bucket} on {server}")

    def document(self, document: NotificationDocument) -> None:
        if not document.entries:
            self.say("  no rules")
        for entry in document.entries:
            self.say(f"  {'ours   ' if entry.ours else 'foreign'}  {entry_line(entry)}", mark="" if entry.ours else "f")

    def change(self, change: RulesChange) -> None:
        for text in rules_difference(change):
            self.say(f"  {text}", mark=text[0])


def rules_difference(change: RulesChange) -> Iterator[str]:
    """Yields one line for each changed rule: "+ new", "- gone", "~ old -> new events"."""
    for entry in change.removed:
        yield f"- {entry_line(entry)}"
    for old, new in change.changed:
        yield f"~ {entry_line(old)} -> {event_names(new.events)}"
    for entry in change.added:
        yield f"+ {entry_line(entry)}"


def entry_line(entry: RuleEntry) -> str:
    if entry.kind == EVENT_BRIDGE:
        return "EventBridge  every event of the bucket"
    keys = decoded_filter(entry)
    parts = (entry.id or "(no Id)", f"{keys.prefix}*{keys.suffix}", event_names(entry.events), f"-> {entry.arn}")
    return "  ".join(parts)


def event_names(names: Sequence[str]) -> str:
    """Returns names grouped by family: "ObjectCreated:Put,Copy ObjectRemoved:*"."""
    families: dict[str, list[str]] = {}
    for name in names:
        family, _, what = name.removeprefix("s3:").partition(":")
        families.setdefault(family, []).append(what)
    return " ".join(f"{family}:{','.join(whats)}" if any(whats) else family for family, whats in families.items())
