"""Names of models that a drop may ask for: the published ones, and those of this installation."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from handlers.registry import load_registry
from listener.app.base import defaults_of
from listener.cli.check_lines import CheckLine
from listener.cli.check_models import model_lines, model_problems
from listener.cli.validate import validate_file
from listener.config.config import Config
from listener.config.environment import Environment
from listener.config.loader import parse_config
from listener.speech_models import speech_models
from manifests.errors import ModelUnavailable, OptionUnsupported

RUNPOD = {"kind": "runpod", "name": "gpu", "id": "abc", "capabilities": ["whisper"]}
S3 = {"kind": "s3", "endpoint": "https://93.184.215.14", "buckets": "drop"}
OPERATIONS = load_registry().models


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "models"
    for name in ("ours", "whisper-theirs"):
        (made / name).mkdir(parents=True)
    (made / "third.pt").touch()
    return made


def config(**parts: Any) -> Config:
    return parse_config(parts, origin="config.yaml")


def test_models_of_this_installation_have_their_names(folder: Path) -> None:
    models = speech_models(config(local={"models": {"fourth": "/elsewhere"}}), Environment(model_dir=folder))
    for name in ("ours", "theirs", "third", "fourth", "models", "tiny", "distil-large-v3"):
        models.check(name)
    with pytest.raises(ModelUnavailable, match=r"'thirds' \(did you mean 'third'"):
        models.check("thirds")
    (folder / "thirds").mkdir()
    models.check("thirds")


def test_an_endpoint_may_have_any_model_unless_it_names_them() -> None:
    speech_models(config(store=S3, endpoints=[RUNPOD]), Environment()).check("who-knows")
    listed = speech_models(config(store=S3, endpoints=[{**RUNPOD, "models": ["legal"]}]), Environment())
    listed.check("legal")
    for unknown in ("who-knows", "lega"):
        with pytest.raises(ModelUnavailable):
            listed.check(unknown)


@pytest.mark.parametrize(
    ("asked", "error", "says"),
    [
        ({"model": "larg-v3"}, ModelUnavailable, "did you mean 'large-v3'"),
        ({"model": "turbo", "translate": True}, OptionUnsupported, "'turbo' cannot translate"),
        ({"engine": "openai-whisper", "hotwords": "Kennedy"}, OptionUnsupported, "has no hotwords"),
    ],
)
def test_validate_refuses_what_no_engine_can_do(
    tmp_path: Path, asked: dict[str, Any], error: type[Exception], says: str
) -> None:
    file = tmp_path / "talk.job.json"
    file.write_text(json.dumps({"audio": "talk.mp3", **asked}))
    with pytest.raises(error, match=says):
        validate_file(file, config(), speech_models(config(), Environment()))


def checked(settings: Config, folder: Path | None = None, *here: str) -> dict[str, CheckLine]:
    models = speech_models(settings, Environment(model_dir=folder))
    defaults = defaults_of(settings, OPERATIONS)
    lines = [
        *model_problems(settings, models, OPERATIONS, defaults),
        *model_lines(settings, models, OPERATIONS, defaults, [{"name": "faster-whisper", "models": list(here)}]),
    ]
    assert len({line.subject for line in lines}) == len(lines)
    return {line.subject: line for line in lines}


def trigger(name: str, **manifest: Any) -> dict[str, Any]:
    return {"name": name, "pattern": f"*.{name}", "manifest": {"operation": "transcribe", **manifest}}


def test_check_tells_of_every_model_that_the_configuration_names(folder: Path) -> None:
    settings = config(
        local={"download_models": False, "models": {"gone": "/no/such/folder"}},
        defaults={"transcribe": {"model": "small"}},
        triggers=[
            trigger("a", model="large-v3-turbo"),
            trigger("b", model="mediun"),
            trigger("c", model="turbo", translate=True),
            trigger("d", model="gone"),
            trigger("e"),
        ],
    )
    lines = checked(settings, folder, "turbo")
    verdicts = {subject: line.ok for subject, line in lines.items()}
    assert verdicts == {
        "model: mediun (triggers.b.model)": False,
        "triggers.c": False,
        "model: large-v3-turbo": True,
        "model: turbo": True,
        "model: gone": False,
        "model: small": False,
    }
    assert "'medium'" in lines["model: mediun (triggers.b.model)"].detail
    assert "local.download_models" in lines["model: small"].detail
    assert all(line.remedy for line in lines.values() if line.ok is False)


def test_check_lets_what_can_be_downloaded_and_other_machines_alone() -> None:
    asked = [trigger("a", model="small")]
    assert checked(config(triggers=asked))["model: small"].ok is None
    assert checked(config(store=S3, endpoints=[RUNPOD], triggers=asked)) == {}
