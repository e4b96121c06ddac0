"""How long jobs will take, before and after something is known."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpu_dispatch.task import CaptionParams, Clip, Img2VidParams, TaskParams, TranscribeParams
from handlers.base import PlannedTask, TaskFile
from listener.dispatch.estimates import GUESSES, UNKNOWN, Estimates, units_of
from listener.ledger.job_rows import JobRow
from manifests.references import ObjectRef
from support.jobs import job


def done(seconds: float, units: float, **changes: object) -> JobRow:
    return job("a", outcome="done", execution_ms=int(seconds * 1000), units=units, **changes)


def task(params: TaskParams, *sizes: int | None) -> PlannedTask:
    return PlannedTask(params, tuple(TaskFile(f"f{i}", ObjectRef("b", "k"), size) for i, size in enumerate(sizes)))


def test_work_is_counted_in_frames_or_in_bytes() -> None:
    clips = tuple(Clip("i.jpg", f"{n}.mp4", frames) for n, frames in enumerate((24, 240)))
    assert units_of(task(Img2VidParams(clips=clips), None)) == 264.0
    assert units_of(task(TranscribeParams(audio="f0"), 5000)) == 5000.0
    assert units_of(task(CaptionParams(video="f0", output="o"), 5000, 20)) == 5020.0
    assert units_of(task(CaptionParams(video="f0", output="o"), None, 20)) == UNKNOWN
    assert units_of(task(TranscribeParams(audio="f0"), None)) == UNKNOWN


@pytest.mark.parametrize("operation", [*GUESSES, "something-new"])
def test_before_anything_is_known_a_guess_is_made_for_every_operation(operation: str) -> None:
    estimates = Estimates(())
    assert estimates.seconds(operation, "", "fast", UNKNOWN) > 1.0
    assert estimates.seconds(operation, "", "fast", 2e6) == pytest.approx(
        2 * estimates.seconds(operation, "", "fast", 1e6)
    )


def test_a_small_model_is_guessed_to_be_quicker_in_every_language() -> None:
    estimates = Estimates(())
    tiny, large = (estimates.seconds("transcribe", model, "fast", 1e7) for model in ("tiny.en", "large-v3"))
    assert tiny == estimates.seconds("transcribe", "tiny", "fast", 1e7) < large


def test_what_an_endpoint_took_is_what_it_will_take() -> None:
    estimates = Estimates([done(10.0, 1000.0), done(30.0, 3000.0)])
    assert estimates.seconds("transcribe", "turbo", "fast", 500.0) == pytest.approx(5.0)
    assert estimates.seconds("transcribe", "turbo", "fast", UNKNOWN) == pytest.approx((10 * 0.9 + 30) / 1.9)


def test_what_one_endpoint_took_is_the_first_word_on_another_and_its_own_the_last() -> None:
    estimates = Estimates([done(10.0, 1000.0)])
    assert estimates.seconds("transcribe", "turbo", "slow", 1000.0) == pytest.approx(10.0)
    estimates.learn(done(100.0, 1000.0, endpoint="slow"))
    assert estimates.seconds("transcribe", "turbo", "slow", 1000.0) == pytest.approx(100.0)
    assert estimates.seconds("transcribe", "turbo", "fast", 1000.0) == pytest.approx(10.0)
    guessed = Estimates(()).seconds("transcribe", "base", "fast", 1000.0)
    assert estimates.seconds("transcribe", "base", "fast", 1000.0) == guessed


def test_only_jobs_that_were_done_teach_anything() -> None:
    estimates = Estimates([done(0.0, 1000.0), job("b", outcome="lost", execution_ms=9000, units=1.0)])
    assert estimates.seconds("transcribe", "turbo", "fast", 1000.0) == Estimates(()).seconds(
        "transcribe", "turbo", "fast", 1000.0
    )


def test_work_of_unknown_size_says_nothing_of_work_of_known_size() -> None:
    estimates = Estimates([done(900.0, UNKNOWN)])
    guessed = Estimates(()).seconds("transcribe", "turbo", "fast", 1000.0)
    assert estimates.seconds("transcribe", "turbo", "fast", 1000.0) == guessed
    assert estimates.seconds("transcribe", "turbo", "fast", UNKNOWN) == pytest.approx(900.0)
    estimates.learn(done(10.0, 1000.0))
    assert estimates.seconds("transcribe", "turbo", "fast", 2000.0) == pytest.approx(10.0, rel=0.01)


def test_the_start_of_a_worker_is_not_taken_for_work() -> None:
    """A short clip that found no warm worker says nothing of an hour of speech."""
    hour = 64_000 / 8 * 3600
    estimates = Estimates([done(12.0, 80_000.0)])
    guessed = Estimates(()).seconds("transcribe", "turbo", "fast", hour)
    assert estimates.seconds("transcribe", "turbo", "fast", hour) == pytest.approx(guessed + 12.0, rel=0.05)
    estimates.learn(done(10.0 + hour * 1e-6, hour))
    assert estimates.seconds("transcribe", "turbo", "fast", hour / 2) == pytest.approx(11.0 + hour / 2 * 1e-6, rel=0.2)


def test_a_faster_worker_is_soon_believed() -> None:
    estimates = Estimates([done(100.0, 1000.0)] * 50)
    for _ in range(40):
        estimates.learn(done(10.0, 1000.0))
    assert estimates.seconds("transcribe", "turbo", "fast", 1000.0) < 12.0


paces = st.lists(st.tuples(st.floats(1.0, 1e9), st.floats(1e-3, 10.0)), min_size=1, max_size=50)


@given(paces, st.floats(1.0, 1e9), st.floats(1.0, 1e9))
def test_more_work_takes_no_less_and_none_longer_than_the_slowest_job_or_pace_seen(
    seen: list[tuple[float, float]], one: float, other: float
) -> None:
    rows = [done(max(0.001, by * pace), by) for by, pace in seen]
    estimates = Estimates(rows)
    small, large = (estimates.seconds("transcribe", "turbo", "fast", units) for units in sorted((one, other)))
    assert 0.0 <= small <= large * 1.001
    longest = max(row.execution_ms / 1000 for row in rows)
    slowest = max(row.execution_ms / 1000 / row.units for row in rows)
    assert large <= max(longest, slowest * max(one, other)) * 1.001
