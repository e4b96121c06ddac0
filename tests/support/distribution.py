"""How tests are shared out between processes (`--dist loadgroup --no-loadscope-reorder`).

Those of a file stay together, and so do files that would each start the same costly servers; what takes longest comes
first.
"""

from __future__ import annotations

from pathlib import Path

import pytest

_KINDS = ("amqp", "kafka", "mqtt", "nats", "redis")
_WITH_BROKERS = ("test_sources.py", "test_brokers*.py", *(f"test_source_{kind}.py" for kind in _KINDS))
_BROKERS = "brokers"
_FOLDERS = ("e2e", "contract", "unit")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        item.add_marker(pytest.mark.xdist_group(_group(item.path)))
    items.sort(key=lambda item: _rank(item.path))


def _group(path: Path) -> str:
    return _BROKERS if any(path.match(pattern) for pattern in _WITH_BROKERS) else path.stem


def _rank(path: Path) -> int:
    if _group(path) == _BROKERS:
        return 0
    return 1 + next((i for i, folder in enumerate(_FOLDERS) if folder in path.parts), 0)
