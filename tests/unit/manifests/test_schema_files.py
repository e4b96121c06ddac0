"""The published schemas say what the models say."""

from __future__ import annotations

import json
from typing import Any

import pytest

from manifests.models import MODELS
from manifests.schema_files import FOLDER, render_schema, write_schemas


def test_the_files_are_true() -> None:
    on_disk = {p.name: p.read_text("utf-8") for p in FOLDER.glob("*.json")}
    assert on_disk == render_schema(), "run: python -m manifests.schema_files"


def test_writing_makes_the_folder(tmp_path: Any) -> None:
    write_schemas(tmp_path / "new")
    assert {p.name for p in (tmp_path / "new").iterdir()} == set(render_schema())


@pytest.mark.parametrize("name", [*MODELS, "manifest"])
def test_an_editor_can_explain_every_field(name: str) -> None:
    schema = json.loads(render_schema()[f"{name}.schema.json"])
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert schema["title"]
    assert schema["description"]
    parts = [schema, *schema.get("$defs", {}).values()]
    fields = [(n, f) for part in parts for n, f in part.get("properties", {}).items()]
    assert fields
    assert [n for n, f in fields if not f.get("description")] == []


def test_only_media_are_required() -> None:
    media = {"audio", "video", "srt", "images"}
    for name in MODELS:
        schema = json.loads(render_schema()[f"{name}.schema.json"])
        assert set(schema["required"]) <= media
        assert schema["additionalProperties"] is False
        assert "$schema" in schema["properties"]
    union = json.loads(render_schema()["manifest.schema.json"])
    assert len(union["anyOf"]) == len(MODELS)
    assert {ref["$ref"].rpartition("/")[2] for ref in union["anyOf"]} <= set(union["$defs"])
