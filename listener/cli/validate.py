"""`gpudrop validate`: reads a manifest on this machine as the listener would read it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from handlers.registry import load_registry
from listener.app.base import defaults_of, reference_policy
from listener.config.config import Config
from listener.speech_models import SpeechModels
from manifests.defaults import read_defaults
from manifests.errors import InputMissing
from manifests.keys import output_folder
from manifests.models import Transcribe
from manifests.names import DEFAULTS_NAME
from manifests.reader import read_manifest
from manifests.references import resolve_reference


def validate_file(file: Path, config: Config, models: SpeechModels) -> dict[str, Any]:
    """Returns the manifest's fields with defaults filled in. Raises the errors of a run, missing inputs aside.

    The defaults beside the file count; those of folders above it are known only in the bucket.
    """
    try:
        data = file.read_bytes()
    except OSError as e:
        raise InputMissing(f"{file} cannot be read: {e.strerror}.", hint="Name a manifest on this machine.") from e
    registry = load_registry()
    defaults = [defaults_of(config, registry.models)]
    beside = file.parent / DEFAULTS_NAME
    if beside.is_file():
        defaults.append(read_defaults(beside.read_bytes(), DEFAULTS_NAME, models=registry.models))
    manifest = read_manifest(data, file.name, models=registry.models, defaults=defaults)
    fields = manifest.model_dump(mode="json")
    handler = registry.get(fields["operation"])
    bucket = config.store.bucket if config.store.kind == "folder" else config.store.buckets[0]
    for reference in handler.references(manifest):
        resolve_reference(
            reference.text, bucket=bucket, folder="", policy=reference_policy(config), where=reference.role
        )
    output_folder(manifest.path, folder="")
    if isinstance(manifest, Transcribe):
        models.check(manifest.model)
    return fields
