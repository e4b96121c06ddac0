"""The environment's settings, read in one place: secrets, and paths on this machine."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from listener.config.credentials import KeyRing, read_together

_OF_THE_STORE = "S3_(?:ACCESS_KEY|SECRET_KEY|SESSION_TOKEN)_FILE"
_SECRET_FILE = re.compile(rf"(GPUDROP_(?:SECRET|(?!{_OF_THE_STORE})\w+_(?:USER|PASSWORD|TOKEN|SECRET|KEY)))_FILE")


@dataclass(frozen=True, slots=True)
class SourceSecrets:
    """The secrets of one source of events, to log in or to admit others; "" where none is set."""

    user: str = field(default="", repr=False)
    password: str = field(default="", repr=False)
    token: str = field(default="", repr=False)
    path_secret: str = field(default="", repr=False)
    hmac_secret: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class Environment:
    """What the environment sets, read once; "" where nothing is set."""

    keys: KeyRing = field(default_factory=lambda: KeyRing({}), repr=False)
    """Asked before every use: the store's keys may change meanwhile."""
    secret: str = field(default="", repr=False)
    callback_secret: str = field(default="", repr=False)
    runpod_key: str = field(default="", repr=False)
    model_dir: Path | None = None
    ffmpeg: Path | None = None
    variables: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    """All that begin with GPUDROP_."""

    def of_source(self, name: str) -> SourceSecrets:
        """Returns GPUDROP_<NAME>_USER, _PASSWORD, _TOKEN, _PATH_SECRET, _HMAC_SECRET; NAME has "_" for "-" and "."."""
        prefix = f"GPUDROP_{re.sub('[^A-Z0-9]', '_', name.upper())}_"

        def of(what: str) -> str:
            return self.variables.get(prefix + what, "")

        return SourceSecrets(of("USER"), of("PASSWORD"), of("TOKEN"), of("PATH_SECRET"), of("HMAC_SECRET"))


def read_environment(environ: Mapping[str, str]) -> Environment:
    """Reads `environ`. Lines of the file that GPUDROP_ENV_FILE names override it; for a secret X, the file that
    GPUDROP_X_FILE names overrides GPUDROP_X. Raises ConfigError for a file that cannot be read.
    """
    lines, _ = read_together(lambda files: files.lines(environ))
    settings = {**environ, **lines}
    variables = {name: value for name, value in settings.items() if name.startswith("GPUDROP_")}
    variables |= _from_files(variables)

    def path(name: str) -> Path | None:
        return Path(variables[name]).expanduser() if variables.get(name) else None

    return Environment(
        keys=KeyRing(environ),
        secret=variables.get("GPUDROP_SECRET", "").strip(),
        callback_secret=variables.get("GPUDROP_CALLBACK_SECRET", ""),
        runpod_key=(variables.get("GPUDROP_RUNPOD_API_KEY") or settings.get("RUNPOD_API_KEY", "")).strip(),
        model_dir=path("GPUDROP_MODEL_DIR"),
        ffmpeg=path("GPUDROP_FFMPEG"),
        variables=variables,
    )


def _from_files(variables: Mapping[str, str]) -> dict[str, str]:
    named = [(found[1], name) for name, value in variables.items() if value and (found := _SECRET_FILE.fullmatch(name))]
    found, _ = read_together(lambda files: {secret: files.value(variables[name], name) for secret, name in named})
    return found
