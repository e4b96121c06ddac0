"""Claims of runs leave the ledger time for others, and are never far apart."""

from __future__ import annotations

from listener.runs.scheduler import gap_s


def test_a_claim_that_takes_long_is_followed_by_a_longer_gap_but_never_by_a_pause() -> None:
    assert gap_s(0.001) < gap_s(0.05) < gap_s(0.1)
    # It waited for the ledger, which somebody else kept busy.
    assert gap_s(20.0) <= 1.0
