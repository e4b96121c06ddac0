"""Where models lie, which engine takes one, and what a machine reports."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from gpu_dispatch.worker.speech.engine import whisper_code
from gpu_dispatch.worker.speech.faster_whisper import FasterWhisper
from gpu_dispatch.worker.speech.models import DISTILLED, PUBLISHED, ModelStore
from gpu_dispatch.worker.speech.openai_whisper import OpenAIWhisper
from gpu_dispatch.worker.speech.registry import ENGINES, choose_engine
from gpu_dispatch.worker.speech.report import available_engines
from gpu_dispatch.worker.speech.transformers_whisper import repository
from manifests.errors import EngineUnavailable, LanguageUnsupported, ModelUnavailable, OptionUnsupported
from manifests.options import RecognitionOptions
from support.requirements import require
from support.scripts import ROOT


@pytest.fixture
def filled(tmp_path: Path) -> Callable[..., Path]:
    """Lays empty files that look like models: a name ending in .pt is a checkpoint, any other a CTranslate2 folder."""

    def fill(*names: str) -> Path:
        for name in names:
            file = tmp_path / name if name.endswith(".pt") else tmp_path / name / "model.bin"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.touch()
        return tmp_path

    return fill


def test_models_lie_under_their_names_in_either_layout(filled: Callable[..., Path]) -> None:
    folder = filled("tiny.en", "large-v3-turbo", "base.pt")
    store = ModelStore(folder)
    assert store.folder("tiny.en") == folder / "tiny.en"
    assert store.folder("turbo") == folder / "large-v3-turbo"
    assert store.checkpoint("base") == folder / "base.pt"
    assert store.checkpoint("tiny.en") is store.folder("base") is None
    assert (store.folders(), store.checkpoints()) == (("large-v3-turbo", "tiny.en"), ("base",))


def test_the_folder_may_be_the_model_itself_and_paths_come_first(filled: Callable[..., Path]) -> None:
    folder = filled("small", "mine")
    store = ModelStore(folder / "small", extra={"ours": folder / "mine", "gone": folder / "gone"})
    assert store.folder("small") == folder / "small"
    assert store.folder("ours") == folder / "mine"
    assert store.folder("gone") is store.folder("mine") is None
    assert store.folders() == ("ours", "small")


@pytest.mark.parametrize("name", ["../secret", "/secret", "a/secret", "..", ""])
def test_a_name_leads_nowhere_else(filled: Callable[..., Path], name: str) -> None:
    folder = filled("secret", "inner/a/secret", "secret.pt")
    store = ModelStore(folder / "inner")
    assert store.folder(name) is None
    assert store.checkpoint(name) is None
    assert not any(engine.can_fetch(name) for engine in ENGINES)


@pytest.mark.parametrize("name", ["whisper-tiny.en", "tiny.en"])
@pytest.mark.parametrize("weights", ["model.safetensors", "model.safetensors.index.json", "pytorch_model.bin"])
def test_checkpoints_of_hugging_face_lie_under_either_name(tmp_path: Path, name: str, weights: str) -> None:
    (tmp_path / name).mkdir()
    (tmp_path / name / weights).touch()
    store = ModelStore(tmp_path)
    assert store.transformers_folder("tiny.en") is None
    (tmp_path / name / "config.json").touch()
    assert store.transformers_folder("tiny.en") == tmp_path / name
    assert (store.transformers_folders(), store.names(), store.folder("tiny.en")) == (("tiny.en",), ("tiny.en",), None)
    assert ModelStore(tmp_path / name).transformers_folder(name) == tmp_path / name


@pytest.mark.parametrize(
    ("model", "there"),
    [
        ("tiny.en", "openai/whisper-tiny.en"),
        ("turbo", "openai/whisper-large-v3-turbo"),
        ("large", "openai/whisper-large-v3"),
        ("large-v1", "openai/whisper-large"),
        ("distil-large-v3.5", "distil-whisper/distil-large-v3.5"),
    ],
)
def test_every_model_has_its_repository(model: str, there: str) -> None:
    assert repository(model) == there


def test_an_engine_that_lacks_an_option_is_passed_over(filled: Callable[..., Path]) -> None:
    require(importlib.util.find_spec("whisper"), "openai-whisper is not installed.", "pip install 'gpudrop[openai]'")
    store = ModelStore(filled("mine.pt", "mine"), allow_download=False)
    engines = (OpenAIWhisper(), FasterWhisper())
    plain, wanting = RecognitionOptions(), RecognitionOptions(hotwords="Kennedy")
    assert choose_engine(None, "mine", store, engines, plain).engine.name == "openai-whisper"
    assert choose_engine(None, "mine", store, engines, wanting).engine.name == "faster-whisper"
    with pytest.raises(OptionUnsupported, match="openai-whisper has no hotwords"):
        choose_engine("openai-whisper", "mine", store, engines, wanting)


def test_the_engine_that_has_the_model_takes_it(filled: Callable[..., Path]) -> None:
    require(importlib.util.find_spec("whisper"), "openai-whisper is not installed.", "pip install 'gpudrop[openai]'")
    folder = filled("mine", "both", "both.pt", "yours.pt")
    store = ModelStore(folder, download_dir=folder / "empty")
    taken = {name: choose_engine(None, name, store).engine.name for name in ("mine", "both", "yours", "medium")}
    assert taken == {
        "mine": "faster-whisper",
        "both": "faster-whisper",
        "yours": "openai-whisper",
        "medium": "faster-whisper",
    }
    assert choose_engine("openai-whisper", "both", store).path == folder / "both.pt"
    assert choose_engine("openai-whisper", "medium", store).path is None
    with pytest.raises(ModelUnavailable) as caught:
        choose_engine("openai-whisper", "distil-large-v3", store)
    assert "both, mine, yours" in caught.value.info.hint
    with pytest.raises(ModelUnavailable):
        choose_engine(None, "medium", ModelStore(folder, allow_download=False, download_dir=folder / "empty"))


def test_a_missing_engine_says_how_to_get_it(filled: Callable[..., Path]) -> None:
    absent = OpenAIWhisper(modules=("no_such_module",))
    store = ModelStore(filled("tiny.pt"))
    with pytest.raises(EngineUnavailable) as caught:
        choose_engine("openai-whisper", "tiny", store, (FasterWhisper(), absent))
    assert "pip install 'gpudrop[openai]'" in caught.value.info.hint
    with pytest.raises(EngineUnavailable, match="no speech engine"):
        choose_engine("deaf-whisper", "tiny", store)
    (info,) = available_engines(store, (absent,))
    assert (info.installed, info.models) == (False, ())
    assert info.remedy == "pip install 'gpudrop[openai]'"


@pytest.mark.parametrize(
    ("tag", "code"), [("pt-BR", "pt"), ("EN", "en"), ("zh-TW", "zh"), ("nb", "no"), ("zh-HK", "yue"), ("iw", "he")]
)
def test_languages_are_understood_as_people_write_them(tag: str, code: str) -> None:
    assert whisper_code(tag, {"pt", "en", "zh", "no", "yue", "he"}, model="large-v3") == code


def test_an_unknown_language_is_refused() -> None:
    with pytest.raises(LanguageUnsupported, match="'xx'"):
        whisper_code("xx", {"pt", "en"}, model="base")


def test_every_published_name_is_known_to_the_engines_makers() -> None:
    from faster_whisper import available_models

    assert {*PUBLISHED, *DISTILLED} == set(available_models())
    require(importlib.util.find_spec("whisper"), "openai-whisper is not installed.", "pip install 'gpudrop[openai]'")
    import whisper

    assert set(whisper.available_models()) == PUBLISHED


def test_the_report_is_one_line_of_json(filled: Callable[..., Path]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "gpu_dispatch.worker.speech.report", "--model-dir", str(filled("tiny.en", "base.pt"))],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    (line,) = done.stdout.splitlines()
    engines = {info["name"]: info for info in json.loads(line)["engines"]}
    assert json.loads(line)["vad"] is True
    assert "tiny.en" in engines["faster-whisper"]["models"]
    assert engines["faster-whisper"]["devices"][-1] == "cpu"
    assert engines["faster-whisper"]["version"]


def test_starting_the_worker_imports_no_engine() -> None:
    heavy = "{'torch', 'ctranslate2', 'whisper', 'transformers'}"
    code = f"import sys, gpu_dispatch.worker.speech.transcribe; print({heavy} & {{*sys.modules}})"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == "set()"
