"""Lines out of chunks of bytes, however long the lines and wherever the chunks are cut."""

from __future__ import annotations


class LineSplitter:
    """Feed it chunks, get whole lines, without their end. Costs one copy of each byte, also for very long lines.

    A line over `max_bytes` is dropped and counted in `dropped`; the next line is read as usual.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max = max_bytes
        self._parts: list[bytes] = []
        self._length = 0
        self._skipping = False
        self.dropped = 0

    def feed(self, chunk: bytes) -> list[bytes]:
        *ends, rest = chunk.split(b"\n")
        lines: list[bytes] = []
        for end in ends:
            self._add(end)
            if self._skipping:
                self.dropped += 1
            else:
                lines.append(b"".join(self._parts))
            self._clear()
            self._skipping = False
        self._add(rest)
        return lines

    def _add(self, part: bytes) -> None:
        if self._skipping or not part:
            return
        self._length += len(part)
        if self._length > self._max:
            self._skipping = True
            self._clear()
        else:
            self._parts.append(part)

    def _clear(self) -> None:
        self._parts = []
        self._length = 0
