"""Transfers files without a network: `file:` below the folder store's root, and `data:` bytes in the task itself.

A `file:` input is opened once, and a symbolic link in the job's folder leads to the open file. Nothing is copied, the
user's file stays unchanged (a hard link would touch its inode, which folder watchers report as a change), and it cannot
be replaced by another one meanwhile.
"""

from __future__ import annotations

import base64
import binascii
import errno
import os
import shutil
import uuid
from collections.abc import Generator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from urllib.parse import unquote, unquote_to_bytes, urlsplit

from gpu_dispatch.transfer.limits import TransferBudget
from gpu_dispatch.transfer.safe_paths import STAGING, PathEscapes, folder_at, open_file, steps_to
from manifests.errors import AddressNotAllowed, InputEmpty, InputMissing, InvalidPath, StoreDenied, TransferFailed

_ABOUT_THE_NAME = frozenset(
    {errno.ENAMETOOLONG, errno.EILSEQ, errno.EINVAL, errno.ELOOP, errno.EISDIR, errno.ENOTDIR, errno.EEXIST}
)
_OPEN_FILES = Path("/proc/self/fd")
"""Where a process finds its open files, inherited ones included; on Linux only."""


class OpenInputs:
    """The open `file:` inputs of one job."""

    def __init__(self) -> None:
        self._handles: list[int] = []

    def add(self, handle: int) -> None:
        self._handles.append(handle)

    @property
    def handles(self) -> tuple[int, ...]:
        return tuple(self._handles)

    def close(self) -> None:
        while self._handles:
            os.close(self._handles.pop())


_of_this_job: ContextVar[OpenInputs | None] = ContextVar("open_inputs", default=None)


@contextmanager
def open_inputs() -> Generator[OpenInputs]:
    """Makes `inherited` return the inputs added to what is yielded, and closes them at the end."""
    inputs = OpenInputs()
    token = _of_this_job.set(inputs)
    try:
        yield inputs
    finally:
        _of_this_job.reset(token)
        inputs.close()


def inherited() -> tuple[int, ...]:
    """Returns the descriptors that a program must inherit, with the same numbers, to read this job's inputs."""
    inputs = _of_this_job.get()
    return inputs.handles if inputs else ()


def link_input(
    url: str, link: Path, *, name: str, root: Path | None, budget: TransferBudget, inputs: OpenInputs
) -> None:
    """Makes `link` lead to the file that `url` names, for reading only."""
    path, base = _parse_file_url(url, name, root)
    try:
        handle = open_file(base, path)
    except PathEscapes as e:
        raise _outside(path, name) from e
    except (FileNotFoundError, NotADirectoryError) as e:
        if not base.is_dir():
            raise TransferFailed(f"{root} is not there.", hint="Mount it; it is tried again.", where=name) from e
        raise InputMissing(f"{path} is not there, or no file.", hint="Check the file's name.", where=name) from e
    except OSError as e:
        raise StoreDenied(f"{path} cannot be read: {e.strerror}.", hint="Check its permissions.", where=name) from e
    inputs.add(handle)
    size = os.fstat(handle).st_size
    if size == 0:
        raise InputEmpty(f"{path} is empty.", hint="Save the file again.", where=name)
    budget.take(size, name)
    link.symlink_to(_OPEN_FILES / str(handle) if _OPEN_FILES.is_dir() else os.path.realpath(path))


def write_data(url: str, path: Path, *, name: str, budget: TransferBudget) -> None:
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
    """Moves `path` to where `url` points, atomically: a reader sees the old file or the new one."""
    target, base = _parse_file_url(url, name, root)
    if target.name in ("", ".", ".."):
        raise InvalidPath(f"{target} names no file.", hint="Check the address.", where=name)
    try:
        with folder_at(base, steps_to(base, target.parent), make=True) as folder:
            _replace(path, target.name, folder, base)
    except PathEscapes as e:
        raise _outside(target, name) from e
    except OSError as e:
        raise TransferFailed(
            f"{target} could not be written: {e.strerror}.",
            hint="Check the folder's permissions and free space.",
            where=name,
            retryable=e.errno not in _ABOUT_THE_NAME,
        ) from e


def _replace(path: Path, name: str, folder: int, root: Path) -> None:
    """Moves `path` to the file `name` of the open `folder`, through the staging folder."""
    staged = f"{uuid.uuid4().hex}.part"
    with folder_at(root, STAGING, make=True) as at:
        try:
            try:
                os.rename(path, staged, dst_dir_fd=at)
            except OSError as e:
                if e.errno != errno.EXDEV:
                    raise
                _copy(path, staged, at)
            _sync(staged, at)
            os.rename(staged, name, src_dir_fd=at, dst_dir_fd=folder)
        finally:
            with suppress(FileNotFoundError):
                os.unlink(staged, dir_fd=at)


def _copy(path: Path, name: str, folder: int) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with path.open("rb") as old, os.fdopen(os.open(name, flags, 0o666, dir_fd=folder), "wb") as new:
        shutil.copyfileobj(old, new, 2**20)


def _sync(name: str, folder: int) -> None:
    handle = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _parse_file_url(url: str, name: str, root: Path | None) -> tuple[Path, Path]:
    """Returns the path in `url` as it is written, and the resolved root that it has to lie below."""
    try:
        parts = urlsplit(url)
    except ValueError as e:
        raise InvalidPath("A file: address cannot be read.", hint="Check it.", where=name) from e
    path = Path(unquote(parts.path))
    if parts.netloc not in ("", "localhost") or not path.is_absolute() or "\0" in parts.path:
        raise InvalidPath("A file: address names an absolute path on this machine.", hint="Check it.", where=name)
    if root is None:
        raise _outside(path, name)
    return path, root.resolve()


def _outside(path: Path, name: str) -> AddressNotAllowed:
    return AddressNotAllowed(
        f"{path} lies outside the folder store.",
        hint="Only files below the store's root can be read and written.",
        where=name,
    )
