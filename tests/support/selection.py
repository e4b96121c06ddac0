"""Which tests `make test` runs (`--quick`), and which it leaves to `make test-all`.

A test belongs to the quick set unless its file is named here, or it is marked `full`.

All tests take over twenty minutes on two cores, more with servers to build. The list follows measured time, not
importance. A file that is named on the command line is run whole.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

FULL = (
    "e2e/*.py",
    "contract/test_attempts_corners.py",
    "contract/test_attempts_ends.py",
    "contract/test_brokers*.py",
    "contract/test_cluster*.py",
    "contract/test_credentials_rotation.py",
    "contract/test_deploy_command.py",
    "contract/test_engine.py",
    "contract/test_engines.py",
    "contract/test_listing_*.py",
    "contract/test_runpod_provider.py",
    "contract/test_servers.py",
    "contract/test_sources_away.py",
    "contract/test_worker_entry.py",
)
"""Below tests/. All that takes more than some ten seconds of a core, or shows what a shorter test shows in part."""
QUICK = ("e2e/test_samples.py",)
"""One pass of each operation, from the drop to the outputs."""

_LEFT = pytest.StashKey[int]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--quick", action="store_true", help="leave out the tests marked `full`, but in files named here")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    named = {Path(argument.partition("::")[0]).resolve() for argument in config.args}
    for item in items:
        if is_full(item.path.relative_to(config.rootpath / "tests")):
            item.add_marker("full")
    if config.getoption("quick"):
        left = [item for item in items if item.get_closest_marker("full") and item.path not in named]
        config.stash[_LEFT] = len(left)
        config.hook.pytest_deselected(items=left)
        gone = set(left)
        items[:] = [item for item in items if item not in gone]


def pytest_sessionfinish(session: pytest.Session) -> None:
    output: dict[str, object] | None = getattr(session.config, "workeroutput", None)
    if output is not None:
        output["left"] = session.config.stash.get(_LEFT, 0)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Each of several processes collects all tests, and so leaves the same ones."""
    node.config.stash[_LEFT] = getattr(node, "workeroutput", {}).get("left", 0)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if left := terminalreporter.config.stash.get(_LEFT, 0):
        terminalreporter.section(f"{left} more tests: make test-all")


def is_full(path: Path) -> bool:
    """`path` is that of a test's file below tests/."""
    return _matches(path, FULL) and not _matches(path, QUICK)


def _matches(path: Path, patterns: tuple[str, ...]) -> bool:
    return any(path.match(pattern) for pattern in patterns)
