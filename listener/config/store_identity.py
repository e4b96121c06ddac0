"""Which store a ledger belongs to: what it says of keys means nothing in another one."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ValidationError

from listener.config.config import Config, FolderStoreConfig
from manifests.hosts import host_and_port


class StoreIdentity(BaseModel, frozen=True):
    """As it is recorded. `place`: the folder, or the server's host and port. Buckets come and go in one store.

    `relative`: where a folder lies from the state's, so that both may be moved together; "" for others.
    """

    kind: Literal["folder", "s3"]
    place: str
    relative: str = ""

    def __str__(self) -> str:
        return f"the folder {self.place}" if self.kind == "folder" else f"the buckets at {self.place}"


def identity_of(config: Config, state_folder: Path | None) -> StoreIdentity:
    """`state_folder`: where the ledger lies; None on PostgreSQL."""
    store = config.store
    if isinstance(store, FolderStoreConfig):
        root = os.path.realpath(store.root)
        relative = os.path.relpath(root, os.path.realpath(state_folder)) if state_folder else ""
        return StoreIdentity(kind="folder", place=root, relative=relative)
    parts = urlsplit(store.endpoint)
    place = host_and_port(parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80))
    return StoreIdentity(kind="s3", place=place)


def is_same(now: StoreIdentity, recorded: StoreIdentity, *, shared: bool) -> bool:
    """`shared`: listeners of several machines have the ledger, and may each see the store elsewhere."""
    if now.kind != recorded.kind:
        return False
    return shared or now.place == recorded.place or bool(now.relative and now.relative == recorded.relative)


def identity_from(data: bytes) -> StoreIdentity | None:
    """None: nothing that this version knows."""
    try:
        return StoreIdentity.model_validate_json(data)
    except ValidationError:
        return None
