"""From the configuration to what workers on this machine find of it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

from gpu_dispatch.local_settings import child_environment
from gpu_dispatch.sandbox import Sandbox
from listener.configuration.config import Config, FolderStoreConfig
from listener.configuration.environment import Environment
from listener.configuration.state import state_folder


def build_sandbox(
    config: Config, environment: Environment, environ: Mapping[str, str], *, ffmpeg: Path | None, model_dir: Path | None
) -> Sandbox:
    """Jobs leave outputs in a folder store, and models in the engines' caches; state and secrets are none of theirs."""
    found = shutil.which(str(ffmpeg or "ffmpeg"))
    readable = [Path(found)] if found else []
    readable += [*([model_dir] if model_dir else []), *config.local.models.values()]
    writable = [*_caches(environ)] if config.local.download_models else []
    if isinstance(config.store, FolderStoreConfig):
        writable.append(config.store.root)
    state = state_folder(config)
    hidden = [*([state] if state else []), *_secrets(config, environment, environ)]
    return Sandbox(tuple(writable), tuple(hidden), tuple(readable))


def _caches(environ: Mapping[str, str]) -> Iterator[Path]:
    """Of openai-whisper, which knows no other, and of the hub."""
    yield _place("~/.cache/whisper")
    yield _hub(environ)
    if elsewhere := environ.get("HF_HUB_CACHE") or environ.get("HUGGINGFACE_HUB_CACHE"):
        yield _place(elsewhere)


def _hub(environ: Mapping[str, str]) -> Path:
    shared = Path(environ.get("XDG_CACHE_HOME") or "~/.cache", "huggingface")
    return _place(environ.get("HF_HOME") or shared)


def _secrets(config: Config, environment: Environment, environ: Mapping[str, str]) -> Iterator[Path]:
    """Files with keys: those that variables name which no worker inherits, those of connections, and the usual ones."""
    yield from (Path("/run/secrets"), _place("~/.pgpass"), _hub(environ) / "token")
    named = {**environ, **environment.variables}
    inherited = child_environment(named, threads=1)
    for name, value in named.items():
        if name.endswith("FILE") and name not in inherited and value:
            yield _place(value)
    for source in config.sources:
        tls = getattr(source, "tls", None)
        yield from (each for each in (getattr(tls, "key_file", None), getattr(tls, "cert_file", None)) if each)


def _place(path: str | Path) -> Path:
    return Path(os.path.expanduser(path))  # noqa: PTH111 - Path's own fails where there is no home
