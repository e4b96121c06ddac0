"""How `pytest --numprocesses N --dist loadfile --no-loadscope-reorder` shares tests out between processes.

Those of a file stay together, and so do files that would each start the same costly servers; what takes longest comes
first. Without --dist loadfile nothing changes but the order.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from xdist.scheduler.loadscope import LoadScopeScheduling  # pyright: ignore[reportMissingTypeStubs]

_KINDS = ("amqp", "kafka", "mqtt", "nats", "redis")
WITH_BROKERS = ("test_sources.py", "test_brokers*.py", *(f"test_source_{kind}.py" for kind in _KINDS))
_BROKERS = "brokers"
_FOLDERS = ("e2e", "contract", "unit")


class _ByServers(LoadScopeScheduling):
    def _split_scope(self, nodeid: str) -> str:
        return _group(Path(nodeid.partition("::")[0]))


def pytest_configure(config: pytest.Config) -> None:
    if hasattr(config, "workerinput"):
        # Threads of several processes that compute wait for each other, and each does so at full speed.
        os.environ.setdefault("OMP_NUM_THREADS", "1")
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Of `--numprocesses auto`: two for each core, since tests wait about as long as they work."""
    return 2 * (os.cpu_count() or 1)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling | None:
    return _ByServers(config, log) if config.getoption("dist") == "loadfile" else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: _rank(item.path))


def _group(path: Path) -> str:
    return _BROKERS if any(path.match(pattern) for pattern in WITH_BROKERS) else path.stem


def _rank(path: Path) -> int:
    if _group(path) == _BROKERS:
        return 0
    return 1 + next((i for i, folder in enumerate(_FOLDERS) if folder in path.parts), 0)
