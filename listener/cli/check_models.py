"""Lines of `gpudrop check` about the speech models that config.yaml names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from gpu_dispatch.speech_names import DISTILLED, PUBLISHED, SAME_MODELS
from gpu_dispatch.speech_options import check_options
from listener.cli.check_lines import CheckLine, problem_line
from listener.config.config import Config
from listener.config.endpoints import RunPodEndpointConfig
from listener.config.triggers import triggers_of
from listener.speech_models import SpeechModels
from manifests.defaults import Defaults
from manifests.errors import GpuDropError
from manifests.models import Manifest, Transcribe
from manifests.reader import from_template


def model_problems(
    config: Config, models: SpeechModels, operations: Mapping[str, type[Manifest]], defaults: Defaults
) -> Iterator[CheckLine]:
    """Yields what is wrong with a model's name, or with what is asked of it, wherever config.yaml names one."""
    for place, name in _named(config, operations, defaults).items():
        try:
            models.check(name)
        except GpuDropError as e:
            yield problem_line(f"model: {name} ({place})", e)
    for place, manifest in _transcriptions(config, operations, defaults):
        try:
            check_options(manifest)
        except GpuDropError as e:
            yield problem_line(place, e)


def model_lines(
    config: Config,
    models: SpeechModels,
    operations: Mapping[str, type[Manifest]],
    defaults: Defaults,
    engines: Sequence[Mapping[str, Any]],
) -> Iterator[CheckLine]:
    """Yields where each known model that config.yaml names comes from; nothing where other machines may have it.

    `engines` is the worker's report of this machine.
    """
    if any(isinstance(each, RunPodEndpointConfig) and "whisper" in each.capabilities for each in config.endpoints):
        return
    own = models.own()
    here = {name for engine in engines for name in engine.get("models", ())}
    here |= {name for name, path in config.local.models.items() if path.exists()}
    for name in dict.fromkeys(_named(config, operations, defaults).values()):
        published = name in PUBLISHED or name in DISTILLED
        if not published and name not in own:
            continue
        if here.intersection(next((names for names in SAME_MODELS if name in names), (name,))):
            yield CheckLine(f"model: {name}", True, "on this machine")
        elif published and config.local.download_models:
            yield CheckLine(f"model: {name}", None, "not here yet; its first use downloads it", "")
        else:
            why = "downloads are off (local.download_models)" if published else "nobody publishes it under this name"
            remedy = f"Put it into the folder of models (GPUDROP_MODEL_DIR), as {name}/ or {name}.pt."
            yield CheckLine(f"model: {name}", False, f"it is not on this machine, and {why}", remedy)


def _named(config: Config, operations: Mapping[str, type[Manifest]], defaults: Defaults) -> dict[str, str]:
    """Returns the models that config.yaml names, by their places."""
    found = {f"{place}.model": manifest.model for place, manifest in _transcriptions(config, operations, defaults)}
    for section, fields in (("", defaults.fields), ("transcribe.", defaults.sections.get("transcribe", {}))):
        if isinstance(name := fields.get("model"), str):
            found[f"defaults.{section}model"] = name
    return found


def _transcriptions(
    config: Config, operations: Mapping[str, type[Manifest]], defaults: Defaults
) -> Iterator[tuple[str, Transcribe]]:
    """Yields the manifests of the triggers that transcribe. Templates are known to be readable."""
    for trigger in triggers_of(config):
        if trigger.manifest is None:
            continue
        place = f"triggers.{trigger.name}"
        manifest = from_template(
            trigger.manifest, key="folder/sample.ext", source=place, models=operations, defaults=(defaults,)
        )
        if isinstance(manifest, Transcribe):
            yield place, manifest
