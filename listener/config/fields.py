"""The types of config.yaml's values."""

from __future__ import annotations

import re
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field

from manifests.hosts import ascii_host
from manifests.keys import bucket_name_problem, key_problem
from manifests.media_names import MediaKind

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def _seconds(value: Any) -> Any:
    """Converts 10, "10", "10s", "1.5m", "24h" to seconds; the type refuses anything else."""
    if isinstance(value, str) and (found := re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)?\s*", value)):
        return float(found[1]) * _UNITS[found[2] or "s"]
    return value


_SIZES = {"KB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}


def _bytes(value: Any) -> Any:
    """Converts 10, "10", "500MB", "20GiB" to bytes; the type refuses anything else."""
    if isinstance(value, str) and (found := re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMG]i?B)?\s*", value)):
        return round(float(found[1]) * _SIZES.get(found[2] or "", 1))
    return value


def _one_or_many(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


def usable_address(url: str) -> str:
    """Returns `url`. Raises ValueError unless its host and port can be used."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError as e:
        raise ValueError(f"no usable address ({e})") from e
    if not host or ascii_host(host) is None:
        raise ValueError("no usable address: check the host's name")
    return url


WebUrl = Annotated[str, Field(pattern=r"^https?://"), AfterValidator(usable_address)]
StoreUrl = Annotated[str, Field(pattern=r"^https?://[^/]+/?$"), AfterValidator(usable_address)]
"""An address without a path."""
Names = Annotated[tuple[str, ...], BeforeValidator(_one_or_many)]
MediaKinds = Annotated[tuple[MediaKind, ...], BeforeValidator(_one_or_many)]


def _bucket_name(name: str) -> str:
    """Returns `name`. Raises ValueError unless it is a bucket's name or "*"."""
    if name != "*" and (problem := bucket_name_problem(name)):
        raise ValueError(problem)
    return name


BucketName = Annotated[str, AfterValidator(_bucket_name)]
BucketNames = Annotated[tuple[BucketName, ...], BeforeValidator(_one_or_many)]


def _folder(text: str) -> str:
    """Returns "" for the bucket's root, else a folder with "/" at its end alone. Raises ValueError."""
    folder = text.strip("/") + "/" if text.strip("/") else ""
    if folder and (problem := key_problem(folder)):
        raise ValueError(f"no folder: it {problem}")
    return folder


def _folder_of_any_bucket(text: str) -> str:
    if not text.startswith("s3://"):
        return _folder(text)
    bucket, _, folder = text.removeprefix("s3://").partition("/")
    return f"s3://{_bucket_name(bucket)}/{_folder(folder)}"


Folder = Annotated[str, AfterValidator(_folder)]
"""A folder of a bucket: "team-a/"; "/" is the root."""
AnyFolder = Annotated[str, AfterValidator(_folder_of_any_bucket)]
"""The same, or "s3://bucket/folder/"."""
Bytes = Annotated[int, BeforeValidator(_bytes), Field(ge=1)]
Seconds = Annotated[float, BeforeValidator(_seconds), Field(ge=0)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")]


class Section(BaseModel, frozen=True, extra="forbid"):
    pass
