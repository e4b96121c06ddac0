"""Files without a network: `file:` below the folder store's root, and `data:` bytes in the task itself.

A `file:` input is a symbolic link in the job's folder: nothing is copied, and nothing about the user's file changes
(a hard link would touch its inode, which folder watchers report as a change).
"""

from __future__ import annotations

import base64
import binascii
import errno
import os
import shutil
import stat
import uuid
from pathlib import Path
from urllib.parse import unquote, unquote_to_bytes, urlsplit

from gpu_dispatch.transfer.limits import Budget
from manifests.errors import AddressNotAllowed, InputEmpty, InputMissing, InvalidPath, StoreDenied, TransferFailed

_ABOUT_THE_NAME = frozenset(
    {errno.ENAMETOOLONG, errno.EILSEQ, errno.EINVAL, errno.ELOOP, errno.EISDIR, errno.ENOTDIR, errno.EEXIST}
)
PRIVATE_FOLDER = ".gpudrop/tmp"
"""Below the root: where outputs are made whole before they appear."""


def link_input(url: str, link: Path, *, name: str, root: Path | None, budget: Budget) -> None:
    """Makes `link` lead to the file that `url` names. For reading only."""
    path = _inside(url, name, root)
    try:
        status = path.stat()
    except (FileNotFoundError, NotADirectoryError) as e:
        if root is None or not root.is_dir():
            raise TransferFailed(f"{root} is not there.", hint="Mount it; it is tried again.", where=name) from e
        raise InputMissing(f"{path} does not exist.", hint="Check the file's name.", where=name) from e
    except OSError as e:
        raise StoreDenied(f"{path} cannot be read: {e.strerror}.", hint="Check its permissions.", where=name) from e
    if not stat.S_ISREG(status.st_mode):
        raise InputMissing(f"{path} is no file.", hint="Name a file, not a folder or a device.", where=name)
    if status.st_size == 0:
        raise InputEmpty(f"{path} is empty.", hint="Save the file again.", where=name)
    budget.take(status.st_size, name)
    link.symlink_to(path)


def write_data(url: str, path: Path, *, name: str, budget: Budget) -> None:
    """Writes the bytes of a `data:` address."""
    head, comma, text = url.partition(",")
    if not comma:
        raise InvalidPath("A data: address needs a comma before its data.", hint="Check the address.", where=name)
    budget.check(len(text) // 3, name)
    data = unquote_to_bytes(text)
    if head.lower().endswith(";base64"):
        try:
            data = base64.b64decode(b"".join(data.split()), validate=True)
        except binascii.Error as e:
            raise InvalidPath(
                f"The data: address is not valid base64 ({e}).", hint="Encode the file again.", where=name
            ) from e
    if not data:
        raise InputEmpty("The data: address holds no bytes.", hint="Encode the file again.", where=name)
    budget.take(len(data), name)
    path.write_bytes(data)


def place_output(path: Path, url: str, *, name: str, root: Path | None) -> None:
    """Moves `path` to the place `url` names, whole at once: a reader sees the old file or the new one."""
    target = _inside(url, name, root, parent_only=True)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _check_below(target.parent.resolve(), root, url, name)
        _replace(path, target, root or target.parent)
    except OSError as e:
        raise TransferFailed(
            f"{target} could not be written: {e.strerror}.",
            hint="Check the folder's permissions and free space.",
            where=name,
            retryable=e.errno not in _ABOUT_THE_NAME,
        ) from e


def _replace(path: Path, target: Path, root: Path) -> None:
    staging = root / PRIVATE_FOLDER
    staging.mkdir(parents=True, exist_ok=True)
    staged = staging / f"{uuid.uuid4().hex}.part"
    try:
        try:
            path.rename(staged)
        except OSError as e:
            if e.errno != errno.EXDEV:
                raise
            shutil.copyfile(path, staged)
        _sync(staged)
        staged.replace(target)
    finally:
        staged.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _inside(url: str, name: str, root: Path | None, *, parent_only: bool = False) -> Path:
    """The path `url` names, links resolved; for a file to be written only its folder's links count."""
    try:
        parts = urlsplit(url)
    except ValueError as e:
        raise InvalidPath("A file: address cannot be read.", hint="Check it.", where=name) from e
    path = Path(unquote(parts.path))
    if parts.netloc not in ("", "localhost") or not path.is_absolute() or "\0" in parts.path:
        raise InvalidPath("A file: address names an absolute path on this machine.", hint="Check it.", where=name)
    resolved = path.parent.resolve() / path.name if parent_only else path.resolve()
    _check_below(resolved, root, url, name)
    if parent_only and resolved.name in ("", ".", ".."):
        raise InvalidPath(f"{path} names no file.", hint="Check the address.", where=name)
    return resolved


def _check_below(path: Path, root: Path | None, url: str, name: str) -> None:
    if root is None or not path.is_relative_to(root.resolve()):
        raise AddressNotAllowed(
            f"{unquote(urlsplit(url).path)} lies outside the folder store.",
            hint="Only files below the store's root can be read and written.",
            where=name,
        )
