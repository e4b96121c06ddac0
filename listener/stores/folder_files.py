"""Files of the folder store: names, listings, atomic writes, and translation of the operating system's errors."""

from __future__ import annotations

import errno
import os
import stat
import time
import uuid
from collections.abc import Generator, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from gpu_dispatch.transfer.safe_paths import PRIVATE, STAGING, PathEscapes, folder_at, stat_beneath, steps_to
from listener.stores.base import ObjectMeta, UnlistableKey
from manifests.errors import GpuDropError, ObjectDenied, StoreDenied, StoreUnavailable, UnusableKey
from manifests.keys import check_key, key_problem

UNFINISHED = ("~", ".part", ".partial", ".crdownload", ".download", ".filepart", ".tmp", ".swp")
"""Name endings that editors, browsers and copying programs give to unfinished files."""


def is_ignored(key: str) -> bool:
    """Returns whether listings and watchers skip `key`: hidden files and folders, and unfinished files."""
    return any(segment.startswith(".") for segment in key.split("/")) or key.lower().endswith(UNFINISHED)


def is_private(key: str) -> bool:
    return key.partition("/")[0].lower() == PRIVATE


def path_of(root: Path, key: str) -> Path:
    """Returns the path of `key` below `root`, unresolved. Raises UnusableKey."""
    return root / check_key(key)


def real_key(root: Path, key: str) -> str:
    """Returns the key of the file that `key` leads to, whether it exists or not. Raises PathEscapes."""
    return "/".join(steps_to(root, path_of(root, key)))


def file_meta_of(key: str, status: os.stat_result) -> ObjectMeta:
    """Makes a file's metadata; the ETag is inode, mtime in nanoseconds and size: every save gives another one."""
    return ObjectMeta(
        key=key,
        size=status.st_size,
        etag=f"{status.st_ino:x}-{status.st_mtime_ns:x}-{status.st_size:x}",
        last_modified=datetime.fromtimestamp(status.st_mtime, UTC),
    )


_Found = ObjectMeta | UnlistableKey | tuple[str, ...]
"""An object, a key that cannot be used, or the steps to a folder."""


@dataclass(frozen=True, slots=True)
class FolderWalk:
    """Walks the files below a resolved `root`, in the order of their names. Blocks: for use in a thread."""

    root: Path

    def objects(self, prefix: str) -> Iterator[ObjectMeta | UnlistableKey]:
        """Yields every file whose key starts with `prefix`. Raises FileNotFoundError for a missing root."""
        folder = prefix.rpartition("/")[0]
        if prefix and (key_problem(prefix) or is_ignored(folder)):
            return
        start = steps_to(self.root, self.root / folder)
        if folder and not _is_folder(self.root, start):
            return
        # Depth first with a stack, because the depth of folders has no limit.
        pending = [self._entries(start, f"{folder}/" if folder else "", prefix)]
        while pending:
            for key, found in pending[-1]:
                if isinstance(found, ObjectMeta | UnlistableKey):
                    yield found
                    continue
                try:
                    pending.append(self._entries(found, key + "/", prefix))
                except (FileNotFoundError, NotADirectoryError):
                    continue
                except OSError as e:
                    yield UnlistableKey(key + "/", f"is a folder that cannot be read ({e.strerror})")
                    continue
                break
            else:
                pending.pop()

    def _entries(self, steps: Sequence[str], folder: str, prefix: str) -> Iterator[tuple[str, _Found]]:
        """Returns a folder's entries, sorted; reads them through its descriptor, in case its name is replaced."""
        found: list[tuple[str, _Found]] = []
        with folder_at(self.root, steps) as at, os.scandir(at) as entries:
            for entry in entries:
                key = folder + entry.name
                if is_ignored(entry.name) or not (key.startswith(prefix) or prefix.startswith(key + "/")):
                    continue
                if (look := self._examine(key, entry, steps)) is not None:
                    found.append((key, look))
        found.sort(key=lambda item: item[0])
        return iter(found)

    def _examine(self, key: str, entry: os.DirEntry[str], steps: Sequence[str]) -> _Found | None:
        """Returns an object, an unusable key, the steps to a folder, or None for what is neither."""
        if not _is_text(key):
            return UnlistableKey(_printable(key), "is not UTF-8")
        if problem := key_problem(key):
            return UnlistableKey(key, problem)
        try:
            if entry.is_dir(follow_symlinks=False):
                return (*steps, entry.name)
            if entry.is_symlink():
                return self._look_at_link(key, self.root.joinpath(*steps, entry.name))
            status = entry.stat(follow_symlinks=False)
        except FileNotFoundError:
            return None
        except OSError as e:
            return UnlistableKey(key, f"cannot be looked at ({e.strerror})")
        return file_meta_of(key, status) if stat.S_ISREG(status.st_mode) else None

    def _look_at_link(self, key: str, path: Path) -> ObjectMeta | UnlistableKey | None:
        try:
            status = stat_beneath(self.root, path)
        except PathEscapes:
            return UnlistableKey(key, "is a link that leads out of the folder")
        if stat.S_ISDIR(status.st_mode):
            return UnlistableKey(key, "is a link to a folder; only files are followed")
        return file_meta_of(key, status) if stat.S_ISREG(status.st_mode) else None


def _is_folder(root: Path, steps: Sequence[str]) -> bool:
    try:
        with folder_at(root, steps):
            return True
    except (FileNotFoundError, NotADirectoryError):
        return False


def _is_text(key: str) -> bool:
    try:
        key.encode()
    except UnicodeEncodeError:
        return False
    return True


def _printable(key: str) -> str:
    return os.fsencode(key).decode("utf-8", "backslashreplace")


STALE_S = 86400.0
"""Age after which a staged file is left over from a crash, in seconds."""
_FULL = "Free space on the disk."
_AWAY = "Check that the disk or share is mounted; it is tried again later."
_HINTS = {
    errno.ENOSPC: _FULL,
    errno.EDQUOT: _FULL,
    errno.ESTALE: _AWAY,
    errno.ENOTCONN: _AWAY,
    errno.EHOSTDOWN: _AWAY,
    errno.ENODEV: _AWAY,
}
GONE = (FileNotFoundError, NotADirectoryError)


@dataclass(frozen=True, slots=True)
class NewFile:
    """A staged file, to be renamed or linked into its place."""

    at: int
    """Descriptor of the staging folder."""
    name: str
    status: os.stat_result


@contextmanager
def new_file(root: Path, data: bytes) -> Generator[NewFile]:
    """Writes `data` to a staged file with fsync; removes the file afterwards unless it was renamed."""
    with staging(root) as at:
        name = f"{uuid.uuid4().hex}.part"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            with os.fdopen(os.open(name, flags, 0o666, dir_fd=at), "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
                status = os.fstat(file.fileno())
            yield NewFile(at, name, status)
        finally:
            with suppress(FileNotFoundError):
                os.unlink(name, dir_fd=at)


@contextmanager
def staging(root: Path) -> Generator[int]:
    """Opens the staging folder, made where it is missing. Raises StoreDenied if something else lies in its place."""
    with ExitStack() as stack:
        try:
            at = stack.enter_context(folder_at(root, STAGING, make=True))
        except OSError as e:
            if e.errno not in (errno.ENOTDIR, errno.ELOOP):
                raise
            path = root.joinpath(*STAGING)
            raise StoreDenied(f"{path} is no folder of gpudrop's.", hint="Remove it: gpudrop makes its own.") from e
        yield at


def check_makeable(root: Path, steps: Sequence[str]) -> None:
    """Raises the OSError that writing the file at `steps` would raise; makes nothing."""
    folders = list(steps[:-1])
    while True:
        try:
            with folder_at(root, folders) as at:
                _check_names(steps[len(folders) :], at)
                if len(folders) == len(steps) - 1 and stat.S_ISDIR(_mode(steps[-1], at)):
                    raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), steps[-1])
                return
        except FileNotFoundError:
            if not folders:
                raise
            folders.pop()


def _check_names(names: Sequence[str], folder: int) -> None:
    longest = os.fpathconf(folder, "PC_NAME_MAX")
    for name in names:
        if len(os.fsencode(name)) > longest:
            raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG), name)


def _mode(name: str, folder: int) -> int:
    """Returns the mode of a file; 0: it is missing."""
    try:
        return os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode
    except FileNotFoundError:
        return 0


def ignores_case(root: Path) -> bool:
    """Returns whether the file system of `root` ignores case."""
    with staging(root), folder_at(root, ()) as at:
        try:
            capitals = os.stat(PRIVATE.upper(), dir_fd=at, follow_symlinks=False)
        except FileNotFoundError:
            return False
        return os.path.samestat(capitals, os.stat(PRIVATE, dir_fd=at, follow_symlinks=False))


def remove_stale(root: Path) -> None:
    """Removes staged files older than STALE_S, which a crash has left."""
    oldest = time.time() - STALE_S
    with staging(root) as at, os.scandir(at) as entries:
        for staged in entries:
            with suppress(*GONE, IsADirectoryError):
                if staged.stat(follow_symlinks=False).st_mtime < oldest:
                    os.unlink(staged.name, dir_fd=at)


def os_error_translated(error: OSError, doing: str, root: Path) -> GpuDropError:
    if isinstance(error, PathEscapes):
        path = Path(error.filename)
        return ObjectDenied(
            f"{path.relative_to(root).as_posix()!r} is a link that leads out of the folder.",
            hint="Copy the file into the folder instead of linking to it.",
            where=path.name,
        )
    message = f"Could not {doing} in {root}: {error.strerror or error}."
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return StoreDenied(message, hint=f"Let the user this program runs as read and write {root}.")
    if error.errno in (errno.ENAMETOOLONG, errno.EILSEQ, errno.EINVAL, errno.ELOOP):
        return UnusableKey(message, hint="Use a shorter and simpler name.")
    if error.errno in (errno.EEXIST, errno.EISDIR, errno.ENOTDIR, errno.ENOTEMPTY):
        return UnusableKey(message, hint="A file and a folder cannot have the same name: rename one of them.")
    return StoreUnavailable(message, hint=_HINTS.get(error.errno or 0, "Check the disk."))
