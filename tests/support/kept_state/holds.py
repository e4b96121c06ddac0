"""Coroutines of a listener that stop for good where they are told to, so that a kill finds its runs there.

The listener gets a sitecustomize of ours: HOLDS is a JSON list of `Hold`, and a file below HELD tells of each that has
been reached.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from support.scripts import ROOT

_SITECUSTOMIZE = """
import asyncio, functools, importlib, json, os
from pathlib import Path


def hold(asked):
    module, cls, name = asked["place"].split(":")
    owner = getattr(importlib.import_module(module), cls)
    real = getattr(owner, name)

    def meant(args):
        of = [getattr(each, "key", None) for each in args] + [getattr(getattr(args[0], "_run", None), "key", None)]
        index = [getattr(each, "index", None) for each in args]
        return (
            asked["key"] in of
            and (not asked["attempt"] or asked["attempt"] in args)
            and (asked["index"] is None or asked["index"] in index)
        )

    @functools.wraps(real)
    async def held(*args, **kwargs):
        if not meant(args):
            return await real(*args, **kwargs)
        if asked["when"] == "after":
            await real(*args, **kwargs)
        Path(os.environ["HELD"], asked["key"]).touch()
        await asyncio.Event().wait()

    setattr(owner, name, held)


for asked in json.loads(os.environ.get("HOLDS", "[]")):
    hold(asked)
"""


@dataclass(frozen=True, slots=True)
class Hold:
    """Stops the run of `key` before or after the coroutine `place` ("module:Class.method"), which is given the run, or
    a job request of it; with an `attempt` or `index` only for that attempt or job.
    """

    key: str
    when: str
    place: str
    attempt: int = 0
    index: int | None = None


class Held:
    def __init__(self, folder: Path, code: Path) -> None:
        """`folder` is the program's own; `code` holds the listener's."""
        self._folder = folder
        self._code = code
        (folder / "site").mkdir()
        (folder / "held").mkdir()
        (folder / "site" / "sitecustomize.py").write_text(_SITECUSTOMIZE)

    def environ(self, *holds: Hold) -> dict[str, str]:
        return {
            "PYTHONPATH": os.pathsep.join((str(self._folder / "site"), str(self._code), str(ROOT / "tests"))),
            "HOLDS": json.dumps([asdict(each) for each in holds]),
            "HELD": str(self._folder / "held"),
        }

    def reached(self, key: str) -> bool:
        return (self._folder / "held" / key).exists()
