"""What comes from the environment, read in one place: secrets, and where things lie on this machine."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class SourceSecrets:
    """What one source of events needs to be let in, or to let others in. Empty texts where nothing is set."""

    user: str = field(default="", repr=False)
    password: str = field(default="", repr=False)
    token: str = field(default="", repr=False)
    path_secret: str = field(default="", repr=False)
    hmac_secret: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class Environment:
    """Empty texts where nothing is set. `variables` are all those that begin with GPUDROP_."""

    s3_access_key: str = ""
    s3_secret_key: str = field(default="", repr=False)
    s3_session_token: str = field(default="", repr=False)
    callback_secret: str = field(default="", repr=False)
    model_dir: Path | None = None
    ffmpeg: Path | None = None
    variables: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)

    def of_source(self, name: str) -> SourceSecrets:
        """GPUDROP_<NAME>_USER, _PASSWORD, _TOKEN, _PATH_SECRET, _HMAC_SECRET; in NAME "-" and "." become "_"."""
        prefix = f"GPUDROP_{re.sub('[^A-Z0-9]', '_', name.upper())}_"

        def of(what: str) -> str:
            return self.variables.get(prefix + what, "")

        return SourceSecrets(of("USER"), of("PASSWORD"), of("TOKEN"), of("PATH_SECRET"), of("HMAC_SECRET"))


def read_environment(environ: Mapping[str, str]) -> Environment:
    """GPUDROP_S3_* first, then the names MinIO's and Amazon's own tools use."""

    def first(*names: str) -> str:
        return next((environ[n] for n in names if environ.get(n)), "")

    def path(name: str) -> Path | None:
        return Path(environ[name]).expanduser() if environ.get(name) else None

    return Environment(
        s3_access_key=first("GPUDROP_S3_ACCESS_KEY", "AWS_ACCESS_KEY_ID", "MINIO_ACCESS_KEY", "MINIO_ROOT_USER"),
        s3_secret_key=first(
            "GPUDROP_S3_SECRET_KEY", "AWS_SECRET_ACCESS_KEY", "MINIO_SECRET_KEY", "MINIO_ROOT_PASSWORD"
        ),
        s3_session_token=first("GPUDROP_S3_SESSION_TOKEN", "AWS_SESSION_TOKEN"),
        callback_secret=first("GPUDROP_CALLBACK_SECRET"),
        model_dir=path("GPUDROP_MODEL_DIR"),
        ffmpeg=path("GPUDROP_FFMPEG"),
        variables={name: value for name, value in environ.items() if name.startswith("GPUDROP_")},
    )
