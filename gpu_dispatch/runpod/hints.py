"""Word from RunPod that a job may have ended. A hint only: it may be late, repeated, lost, or a lie."""

from __future__ import annotations

import asyncio
import uuid


class WebhookHints:
    """`url` is where RunPod reaches our webhook, its secret included; each job gets an address of its own below it."""

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/")
        self._waiting: dict[str, asyncio.Event] = {}

    def address(self, wake: asyncio.Event) -> tuple[str, str]:
        """A new job's webhook, and the name in it: `wake` is set when it is told. Jobs end before we know their id."""
        name = uuid.uuid4().hex
        self._waiting[name] = wake
        return f"{self._url}/{name}", name

    def expect(self, name: str, wake: asyncio.Event) -> None:
        """From now on `wake` is set when `name`, a job's id, is told."""
        self._waiting[name] = wake

    def forget(self, *names: str) -> None:
        for name in names:
            self._waiting.pop(name, None)

    def tell(self, name: str) -> bool:
        """Whether anybody waits for `name`."""
        wake = self._waiting.get(name)
        if wake:
            wake.set()
        return wake is not None
