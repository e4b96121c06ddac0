"""Which messages are at work, and when each must be hidden from other receivers again. Decides; asks no server."""

from __future__ import annotations

from collections.abc import Iterable

from listener.sources.sqs.queue import SqsMessage


class HiddenMessages:
    """Times are seconds on whatever clock `now` is read from.

    A message is due for the first time when half of its hidden time is over, so that two more looks, each a sixth of
    that time later, can make good for a request that failed.
    """

    def __init__(self, visibility_s: float) -> None:
        self.look_every_s = visibility_s / 6
        self._due_after_s = visibility_s / 2
        self._due: dict[str, tuple[float, SqsMessage]] = {}

    def __len__(self) -> int:
        return len(self._due)

    def __contains__(self, message: SqsMessage) -> bool:
        return message.receipt in self._due

    def hidden(self, messages: Iterable[SqsMessage], now: float) -> None:
        """They have just been hidden: by their delivery, or again."""
        for message in messages:
            self._due[message.receipt] = (now + self._due_after_s, message)

    def done(self, messages: Iterable[SqsMessage]) -> None:
        for message in messages:
            self._due.pop(message.receipt, None)

    def due(self, now: float) -> list[SqsMessage]:
        return [message for due, message in self._due.values() if due <= now]

    def all(self) -> list[SqsMessage]:
        return [message for _, message in self._due.values()]
