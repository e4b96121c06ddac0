"""The demo's five drops, on each kind of store: every output is opened and looked into."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.installation import Installation, samples
from support.sample_checks import check_samples


@pytest.fixture
def dropped(install: Installation, model_dir: Path) -> Installation:
    install.environ["GPUDROP_MODEL_DIR"] = str(model_dir)
    install.start(defaults={"transcribe": {"model": "tiny.en"}})
    for key, data in samples().items():
        install.drops.put(key, data)
    return install


def test_every_sample_comes_back(dropped: Installation, tmp_path: Path) -> None:
    check_samples(dropped, tmp_path)
    assert dropped.stop() < 5.0
