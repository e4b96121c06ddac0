"""Buckets of any size: `listing_server.py` in a process of its own, and the keys it makes."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from listener.config.credentials import AccessKeys
from listener.stores.base import ObjectMeta, UnlistableKey
from listener.stores.s3.clients import S3Settings
from listener.stores.s3.store import S3Store
from support.deadlines import HANG_S
from support.listing_server import Keys

BUCKET = "bucket"
ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class MadeUp:
    """A running listing server. `keys` are all it has, in order."""

    endpoint: str
    keys: Keys

    def store(self) -> S3Store:
        return S3Store(S3Settings(self.endpoint, (BUCKET,), keys=lambda: AccessKeys("key", "secret"), timeout_s=20.0))

    @property
    def pages(self) -> dict[str, int]:
        """How many pages each client asked for."""
        with urllib.request.urlopen(f"{self.endpoint}/?seen", timeout=10) as answer:
            return json.load(answer)

    def program(self, *arguments: str) -> dict[str, Any]:
        """What `listing_program.py` measured."""
        argv = [sys.executable, str(Path(__file__).with_name("listing_program.py")), self.endpoint, *arguments]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=HANG_S, check=True, cwd=ROOT)
        return json.loads(done.stdout.splitlines()[-1])


@contextmanager
def made_up(
    keys: int, *, odd: Sequence[tuple[int, int]] = (), fail_at: int | None = None, broken: bool = False
) -> Iterator[MadeUp]:
    """A server with `keys` keys; those in `odd` (first index, how many) hold a newline.

    It refuses the page at `fail_at` once; `broken`: it writes odd keys so that no XML parser takes them.
    """
    argv = [sys.executable, str(Path(__file__).with_name("listing_server.py")), "--keys", str(keys)]
    argv += [part for first, n in odd for part in ("--odd", f"{first}:{n}")]
    argv += ["--fail-at", str(fail_at)] if fail_at is not None else []
    argv += ["--broken"] if broken else []
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            yield MadeUp(f"http://127.0.0.1:{process.stdout.readline().strip()}", Keys(keys, odd))
        finally:
            process.terminate()


async def listed(store: S3Store, prefix: str = "") -> tuple[list[str], list[str]]:
    """Usable and odd keys, as often and in the order they come."""
    items = [item async for item in store.list(store.buckets[0], prefix)]
    usable = [item.key for item in items if isinstance(item, ObjectMeta)]
    return usable, [item.key for item in items if isinstance(item, UnlistableKey)]
