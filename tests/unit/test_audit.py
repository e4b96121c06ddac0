"""What the audit makes of what pip-audit says."""

from __future__ import annotations

from typing import Any

import pytest

from support.scripts import load_script

audit = load_script("audit")

KNOWN = {"name": "a", "version": "1", "vulns": []}
BAD = {"name": "b", "version": "2", "vulns": [{"id": "PYSEC-1"}]}
SKIPPED = {"name": "c", "skip_reason": "not found"}


@pytest.mark.parametrize(
    ("found", "well", "word"),
    [
        (None, True, "not looked up"),
        ([SKIPPED], True, "not looked up"),
        ([KNOWN, SKIPPED], True, "No known vulnerability in 1 packages"),
        ([KNOWN, BAD], False, "b 2: PYSEC-1"),
    ],
)
def test_verdict(found: list[dict[str, Any]] | None, well: bool, word: str) -> None:
    ok, told = audit.verdict(found)
    assert ok is well
    assert word in told
