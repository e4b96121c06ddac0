"""The store that a ledger belongs to: its keys mean nothing in another store."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ValidationError

from listener.config.config import Config, FolderStoreConfig
from manifests.hosts import host_and_port


class StoreIdentity(BaseModel, frozen=True):
    """A store as it is recorded, without its buckets, which may change."""

    kind: Literal["folder", "s3"]
    place: str
    """The folder, or the server's host and port."""
    relative: str = ""
    """A folder's path from the state's, so that both may be moved together; "" for others."""

    def __str__(self) -> str:
        return f"the folder {self.place}" if self.kind == "folder" else f"the buckets at {self.place}"


def identity_of(config: Config, state_folder: Path | None) -> StoreIdentity:
    """Returns the identity of the configured store; `state_folder` holds the ledger, None on PostgreSQL."""
    store = config.store
    if isinstance(store, FolderStoreConfig):
        root = os.path.realpath(store.root)
        relative = os.path.relpath(root, os.path.realpath(state_folder)) if state_folder else ""
        return StoreIdentity(kind="folder", place=root, relative=relative)
    parts = urlsplit(store.endpoint)
    place = host_and_port(parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80))
    return StoreIdentity(kind="s3", place=place)


def is_same(now: StoreIdentity, recorded: StoreIdentity, *, shared: bool) -> bool:
    """Whether both are one store. `shared`: several machines use the ledger, each with its own path to the store."""
    if now.kind != recorded.kind:
        return False
    return shared or now.place == recorded.place or bool(now.relative and now.relative == recorded.relative)


def identity_from(data: bytes) -> StoreIdentity | None:
    """Parses a recorded identity; None: this version cannot."""
    try:
        return StoreIdentity.model_validate_json(data)
    except ValidationError:
        return None
