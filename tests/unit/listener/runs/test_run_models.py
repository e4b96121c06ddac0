"""A run that asks for what no engine can do ends before its first job."""

from __future__ import annotations

from dataclasses import replace

import pytest

from listener.speech_models import SpeechModels
from support.runs import RunBench


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        ({"model": "larg-v3"}, "model_unavailable"),
        ({"model": "turbo", "translate": True}, "option_unsupported"),
        ({"language": "es", "languages": ["pt", "en"]}, "language_unsupported"),
    ],
)
async def test_what_no_engine_can_do_ends_without_an_attempt(
    bench: RunBench, asked: dict[str, object], code: str
) -> None:
    strict = replace(bench, parts=replace(bench.parts, models=SpeechModels(elsewhere=False)))
    await strict.put("a.mp3")
    run = await strict.drop("talk", {"audio": "a.mp3", **asked})
    await strict.tell(run)
    assert (await strict.failed(run))["code"] == code
    assert strict.attempts.made == []
