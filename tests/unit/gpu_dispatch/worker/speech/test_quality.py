"""What is told of a transcript beside its words."""

from __future__ import annotations

from gpu_dispatch.transcript import CutLoop, Quality, Segment, Word
from gpu_dispatch.worker.speech.quality import quality_of


def test_doubt_is_summed_up() -> None:
    sure = Segment(0, 0.0, 1.0, " a", (Word(" a", 0.0, 1.0, 0.9),), seek=0, tokens=(1, 2, 3), avg_logprob=-0.2)
    unsure = [
        Segment(1, 2.0, 3.0, " b", tuple(Word(" b", 2.0, 2.1, 0.1) for _ in range(15)), 3000, (1,), 0.4, -1.0),
        Segment(2, 3.0, 4.0, " c", tuple(Word(" c", 3.0, 3.1, 0.29) for _ in range(15)), 3000, (), 0.4, -1.0),
    ]
    loops = [CutLoop("so", float(i), 4) for i in range(30)]
    told = quality_of([sure, *unsure], loops, voice_s=4.0, duration=10.0, first_temperature=0.0, again=0)
    assert (told.speech_ratio, told.silent_s, told.mean_logprob, told.decoded_again) == (0.4, 6.0, -0.52, 1)
    assert (told.doubtful_words, len(told.doubtful), told.doubtful[0].start) == (30, 20, 2.0)
    assert (told.loops_cut, len(told.loops)) == (30, 20)


def test_nothing_said_is_nothing_doubted() -> None:
    told = quality_of([], [], voice_s=0.0, duration=8.0, first_temperature=0.0, again=0)
    assert told == Quality(speech_ratio=0.0, silent_s=8.0)
