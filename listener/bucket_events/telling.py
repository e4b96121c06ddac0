"""Rules and changes as lines for people and logs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.text import Text

from listener.bucket_events.destinations import plain
from listener.bucket_events.entries import EVENT_BRIDGE, Document, Entry
from listener.bucket_events.merging import Change

_STYLES = {"+": "green", "-": "red", "~": "yellow", "f": "dim"}


class Teller:
    """Plain where the output is no terminal; lines are never cut or wrapped."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def say(self, text: str, *, mark: str = "") -> None:
        self._console.print(Text(text, style=_STYLES.get(mark, "")), soft_wrap=True)

    def bucket(self, bucket: str, server: str) -> None:
        self.say(f"bucket {bucket} on {server}")

    def document(self, document: Document) -> None:
        if not document.entries:
            self.say("  no rules")
        for entry in document.entries:
            self.say(f"  {'ours   ' if entry.ours else 'foreign'}  {line(entry)}", mark="" if entry.ours else "f")

    def change(self, change: Change) -> None:
        for text in difference(change):
            self.say(f"  {text}", mark=text[0])


def difference(change: Change) -> Iterator[str]:
    """One line a rule: "+ new", "- gone", "~ changed: old -> new"; none when nothing changes."""
    for entry in change.removed:
        yield f"- {line(entry)}"
    for old, new in change.changed:
        yield f"~ {line(old)} -> {events(new.events)}"
    for entry in change.added:
        yield f"+ {line(entry)}"


def line(entry: Entry) -> str:
    if entry.kind == EVENT_BRIDGE:
        return "EventBridge  every event of the bucket"
    keys = plain(entry)
    parts = (entry.id or "(no Id)", f"{keys.prefix}*{keys.suffix}", events(entry.events), f"-> {entry.arn}")
    return "  ".join(parts)


def events(names: Sequence[str]) -> str:
    """ "ObjectCreated:Put,Copy ObjectRemoved:*" """
    families: dict[str, list[str]] = {}
    for name in names:
        family, _, what = name.removeprefix("s3:").partition(":")
        families.setdefault(family, []).append(what)
    return " ".join(f"{family}:{','.join(whats)}" if any(whats) else family for family, whats in families.items())
