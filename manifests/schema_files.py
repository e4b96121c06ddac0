"""JSON Schemas generated from the models: `python -m manifests.schema_files` writes manifests/schema/."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic.json_schema import models_json_schema

from manifests.models import MODELS, Manifest

DIALECT = "https://json-schema.org/draft/2020-12/schema"
FOLDER = Path(__file__).with_name("schema")

_POINTER = {"type": "string", "description": "Where this schema lies; for your editor, ignored otherwise."}


def render_schema(models: Mapping[str, type[Manifest]] = MODELS) -> dict[str, str]:
    """Returns texts by file name: a schema for each operation, and manifest.schema.json, which accepts any of them."""
    files = {f"{name}.schema.json": _operation(name, model) for name, model in models.items()}
    files["manifest.schema.json"] = _union(models)
    return {name: json.dumps(schema, ensure_ascii=False, indent=2) + "\n" for name, schema in files.items()}


def write_schemas(folder: Path = FOLDER) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in render_schema().items():
        (folder / name).write_text(text, "utf-8")


def _operation(name: str, model: type[Manifest]) -> dict[str, Any]:
    schema = _for_editors(model.model_json_schema())
    return {"$schema": DIALECT, **schema, "title": f"gpudrop manifest: {name}"}


def _union(models: Mapping[str, type[Manifest]]) -> dict[str, Any]:
    references, definitions = models_json_schema([(m, "validation") for m in models.values()])
    return {
        "$schema": DIALECT,
        "title": "gpudrop manifest",
        "description": "What to do with media in a bucket: NAME.job.json or NAME.job.yaml beside them."
        " The media named tell the operation.",
        "anyOf": list(references.values()),
        **_for_editors(definitions),
    }


def _for_editors(schema: dict[str, Any]) -> dict[str, Any]:
    """Removes titles that repeat a field's name, and permits "$schema" where a document may stand."""
    for part in (schema, *schema.get("$defs", {}).values()):
        for field in part.get("properties", {}).values():
            field.pop("title", None)
        if "operation" in part.get("properties", {}):
            part["properties"] = {"$schema": _POINTER, **part["properties"]}
    return schema


if __name__ == "__main__":
    write_schemas()
