"""The ledger's one thread: whose turn it is, counted by what leaves in which order."""

from __future__ import annotations

import threading
from concurrent.futures import CancelledError, Future

import pytest

from listener.ledger.fair_thread import FEW_AT_ONCE, FairThread, in_turn
from support.deadlines import HANG_S


class Busy:
    """A thread that is held up until all has been asked of it; `left` is the order in which that was done."""

    def __init__(self) -> None:
        self.thread = FairThread("test")
        self.left: list[str] = []
        self._begun, self._go_on = threading.Event(), threading.Event()
        self._futures: list[Future[None]] = []
        self.thread.submit(self._hold, many=False)
        assert self._begun.wait(HANG_S)

    def _hold(self) -> None:
        self._begun.set()
        self._go_on.wait(HANG_S)

    def ask(self, name: str, *, many: bool = False) -> Future[None]:
        future = self.thread.submit(lambda: self.left.append(name), many=many)
        self._futures.append(future)
        return future

    def order(self) -> list[str]:
        self._go_on.set()
        for future in self._futures:
            if not future.cancelled():
                future.result(HANG_S)
        self.thread.close()
        return self.left


def test_a_folder_of_few_calls_is_soon_next() -> None:
    busy = Busy()
    with in_turn(("b", "flood")):
        for _ in range(50):
            busy.ask("flood")
    with in_turn(("b", "other")):
        busy.ask("other")
    assert busy.order().index("other") <= 1


def test_a_call_about_many_rows_waits_for_some_about_few_and_for_no_more() -> None:
    busy = Busy()
    busy.ask("many", many=True)
    for _ in range(50):
        busy.ask("few")
    assert busy.order().index("many") == FEW_AT_ONCE


def test_calls_about_many_rows_keep_their_order() -> None:
    busy = Busy()
    for name in "abc":
        busy.ask(name, many=True)
    assert busy.order() == ["a", "b", "c"]


def test_what_nobody_waits_for_any_more_is_passed() -> None:
    busy = Busy()
    gone = busy.ask("gone")
    busy.ask("there")
    assert gone.cancel()
    assert busy.order() == ["there"]
    with pytest.raises(CancelledError):
        gone.result()


def test_what_goes_wrong_is_raised_to_whoever_waits() -> None:
    thread = FairThread("test")

    def fails() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        thread.submit(fails, many=False).result(HANG_S)
    assert thread.submit(lambda: 1, many=True).result(HANG_S) == 1
    thread.close()
