"""A folder's files as objects, through blocking calls."""

from __future__ import annotations

import errno
import os
import stat
import threading
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal

from gpu_dispatch.transfer.safe_paths import PRIVATE, PathEscapes, folder_at, open_file, stat_beneath, steps_to
from listener.stores.base import ObjectMeta, StoredObject, too_large
from listener.stores.folder_files import (
    GONE,
    check_makeable,
    file_meta_of,
    ignores_case,
    is_private,
    new_file,
    os_error_translated,
    path_of,
    remove_stale,
)
from manifests.errors import StoreDenied, StoreUnavailable, UnusableKey
from manifests.names import is_reserved


class FolderObjects:
    """Reads and writes the objects below `root`, which is resolved. Blocks: for use in a thread.

    Methods raise OSError, which `translated_errors` translates.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._one_writer = threading.Lock()

    def head(self, key: str) -> ObjectMeta | None:
        path = self._usable(key)
        if path is None:
            return None
        try:
            status = stat_beneath(self._root, path)
        except GONE:
            self._require_root()
            return None
        return file_meta_of(key, status) if stat.S_ISREG(status.st_mode) else None

    def get(self, key: str, max_bytes: int) -> StoredObject | None:
        path = self._usable(key)
        if path is None:
            return None
        try:
            handle = open_file(self._root, path)
        except GONE:
            self._require_root()
            return None
        with os.fdopen(handle, "rb") as file:
            status = os.fstat(handle)
            size = status.st_size
            # The file may grow while it is read.
            data = file.read(max_bytes + 1) if size <= max_bytes else b""
        if max(size, len(data)) > max_bytes:
            raise too_large(key, size, max_bytes)
        return StoredObject(file_meta_of(key, status), data)

    def write(self, key: str, data: bytes) -> ObjectMeta:
        with self._open_parent(key) as (folder, name), new_file(self._root, data) as new:
            os.rename(new.name, name, src_dir_fd=new.at, dst_dir_fd=folder)
            os.fsync(folder)
        return file_meta_of(key, new.status)

    def create(self, key: str, data: bytes) -> bool:
        with self._open_parent(key) as (folder, name), new_file(self._root, data) as new:
            try:
                os.link(new.name, name, src_dir_fd=new.at, dst_dir_fd=folder, follow_symlinks=False)
            except FileExistsError:
                return False
            os.fsync(folder)
        return True

    def replace(self, key: str, data: bytes, expected: str | None) -> str | None:
        with self._open_parent(key) as (folder, name), new_file(self._root, data) as new, self._one_writer:
            if self._etag(key) != expected:
                return None
            os.rename(new.name, name, src_dir_fd=new.at, dst_dir_fd=folder)
            os.fsync(folder)
        return file_meta_of(key, new.status).etag

    def _etag(self, key: str) -> str | None:
        """Returns the ETag; None for no file, and for a link that leads out, which is no object and may be replaced."""
        try:
            now = self.head(key)
        except PathEscapes:
            return None
        return now.etag if now else None

    @contextmanager
    def _open_parent(self, key: str) -> Generator[tuple[int, str]]:
        """Opens the folder of `key`, made where it is missing; gives its descriptor and the file's name."""
        path = self._writable(key)
        self._require_root()
        with folder_at(self._root, steps_to(self._root, path.parent), make=True) as folder:
            yield folder, path.name

    def check_writable(self, key: str) -> None:
        path = self._writable(key)
        self._require_root()
        if not is_reserved(key) and is_reserved(key.lower()) and ignores_case(self._root):
            raise UnusableKey(
                f"The key {key!r} is one of gpudrop's own here, where capitals make no difference.",
                hint="Choose another name.",
                where=key,
            )
        check_makeable(self._root, (*steps_to(self._root, path.parent), path.name))

    def delete(self, key: str) -> None:
        path = self._usable(key)
        if path is None:
            return
        with suppress(*GONE, IsADirectoryError), folder_at(self._root, steps_to(self._root, path.parent)) as folder:
            os.unlink(path.name, dir_fd=folder)

    def signed(self, method: Literal["GET", "PUT"], key: str) -> str:
        path = self._writable(key)
        steps_to(self._root, path if method == "GET" else path.parent)
        return path.as_uri()

    def check(self) -> None:
        self.probe()
        with new_file(self._root, b""):
            pass
        if not os.access(self._root, os.W_OK | os.X_OK):  # the staging folder alone may be writable
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        remove_stale(self._root)

    def probe(self) -> None:
        self._require_root()
        with os.scandir(self._root) as entries:
            next(entries, None)

    def _usable(self, key: str) -> Path | None:
        """Returns the path of a key that may name a file; None for a folder and for a private key."""
        path = path_of(self._root, key)
        return None if key.endswith("/") or is_private(key) else path

    def _writable(self, key: str) -> Path:
        path = self._usable(key)
        if path is None:
            raise UnusableKey(
                f"The key {key!r} names no file of the store.", hint=f"Name a file outside {PRIVATE}/.", where=key
            )
        return path

    def _require_root(self) -> None:
        """Raises StoreDenied for a missing root; it is not created, because its disk may not be mounted."""
        if not self._root.is_dir():
            raise StoreDenied(
                f"The folder {self._root} does not exist.", hint="Create it, or correct store.root in config.yaml."
            )

    @contextmanager
    def translated_errors(self, doing: str) -> Generator[None]:
        """Translates the operating system's errors into the project's."""
        try:
            yield
        except FileNotFoundError as e:
            self._require_root()
            raise StoreUnavailable(f"Could not {doing}: {e.strerror}.", hint="It is tried again later.") from e
        except OSError as e:
            raise os_error_translated(e, doing, self._root) from e
