"""Makes the state folder and its SQLite files, and checks that only this user can write them.

The state is trusted like the program itself: a replaced record would decide what the listener does next.
"""

from __future__ import annotations

import grp
import os
import pwd
import sqlite3
import stat
import struct
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from listener.ledger.errors import as_startup_error, sqlite_error
from manifests.errors import StateError

DATABASES = ("engine.sqlite", "ledger.sqlite")
LOCK = "lock"
SECRET = "secret"  # noqa: S105 - the name of a file
"""The copy of the installation's secret that is used if the ledger is lost."""
_BESIDE = ("", "-wal", "-shm", "-journal")
_NEW = ".new"
FILES = frozenset({LOCK, SECRET, SECRET + _NEW, *(name + end for name in DATABASES for end in _BESIDE)})
"""Every file name of a state folder."""

_MOST_LINKS = 40
_A_USER, _A_GROUP = 0x02, 0x08
"""Tags of the ACL entries that name one user, or one group."""
_MAY_WRITE = 2


def make_private_folder(folder: Path) -> None:
    """Makes `folder` private to this user; tightens an existing one that holds nothing but the state.

    Raises StateError if another user could write there or replace it, and OSError.
    """
    check_private(folder)
    for above in reversed([each for each in folder.parents if not each.exists()]):
        above.mkdir(mode=0o700, exist_ok=True)
    try:
        folder.mkdir(mode=0o700)
    except FileExistsError:
        status = folder.stat()
        mode, ours = stat.S_IMODE(status.st_mode), status.st_uid == os.geteuid()
        # A folder with other files stays as it is: each file of the state is private by itself.
        if mode & 0o077 and ours and FILES.issuperset(file.name for file in folder.iterdir()):
            folder.chmod(mode & 0o700)
    check_private(folder)


def make_private_file(path: Path) -> None:
    """Makes a database file private to this user; if it exists, tightens it and the files SQLite keeps beside it.

    Raises StateError for a link and for another user's file. Opens no existing file: closing one would release all
    locks that this process has on it.
    """
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    except FileExistsError:
        for each in (path.with_name(path.name + end) for end in _BESIDE):
            _make_private(each)


def read_private(path: Path, most_bytes: int) -> bytes | None:
    """Reads a file after making it private; None if it is missing or too long. Raises StateError and OSError."""
    try:
        _make_private(path)
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    with os.fdopen(handle, "rb") as file:
        data = file.read(most_bytes + 1)
    return data if len(data) <= most_bytes else None


def write_private(path: Path, data: bytes) -> None:
    """Writes a private file atomically. Raises OSError."""
    new = path.with_name(path.name + _NEW)
    new.unlink(missing_ok=True)
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)


def check_private(folder: Path) -> None:
    """Raises StateError if another user can write in `folder` or replace it. Changes nothing.

    Root does not count as another user: a volume mounted for this program often belongs to root and is writable for
    root's group.
    """
    for step, status in _path_steps(folder):
        foreign = status.st_uid not in (0, os.geteuid())
        if foreign:
            owner = _user(status.st_uid)
            problem = f"is a link of {owner}" if stat.S_ISLNK(status.st_mode) else f"belongs to {owner}"
        elif stat.S_ISLNK(status.st_mode):
            continue
        else:
            problem = writers(step, status, sticky=step != folder)
        if problem:
            raise StateError(
                f"The state folder {folder} is not safe: {step} {problem}, who could replace what lies there.",
                hint=("Run gpudrop as that user" if foreign else f"Run `chmod go-w {step}`")
                + ", or name a folder of this user's alone as `state` in config.yaml.",
                where="state",
            )


def _path_steps(folder: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """Yields every existing folder and link on the way to `folder`, itself last."""
    left = list(reversed(folder.absolute().parts))
    here, links = Path(left.pop()), 0
    yield here, here.lstat()
    while left:
        part = left.pop()
        if part == "..":
            here = here.parent
            continue
        step = here / part
        try:
            status = step.lstat()
        except (FileNotFoundError, NotADirectoryError):
            return
        # The last one has the name `folder`, whatever links lead to it.
        yield (folder if not left and not stat.S_ISLNK(status.st_mode) else step), status
        if not stat.S_ISLNK(status.st_mode):
            here = step
            continue
        links += 1
        if links > _MOST_LINKS:
            return
        target = step.readlink()
        left += reversed(target.parts)
        if target.is_absolute():
            here = Path(left.pop())


def writers(step: Path, status: os.stat_result, *, sticky: bool) -> str:
    """Says who else may write, as part of a sentence; "": nobody. A sticky folder keeps others' files safe."""
    if sticky and status.st_mode & stat.S_ISVTX:
        return ""
    if status.st_mode & stat.S_IWOTH:
        return "may be written by everybody"
    if status.st_mode & stat.S_IWGRP and not _is_own_group(status.st_gid):
        return "may be written by its group"
    if status.st_mode & stat.S_IWGRP and _has_named_writers(step):
        return "may be written by others that its access list names"
    return ""


def _has_named_writers(path: Path) -> bool:
    """Returns whether a POSIX ACL lets others write; the mode shows them as the folder's group."""
    if not hasattr(os, "getxattr"):
        return False
    try:
        entries = struct.iter_unpack("<HHI", os.getxattr(path, "system.posix_acl_access")[4:])
    except OSError:
        return False
    writers = [(tag, who) for tag, rights, who in entries if rights & _MAY_WRITE]
    users = {who for tag, who in writers if tag == _A_USER}
    return not users <= {0, os.geteuid()} or not all(_is_own_group(who) for tag, who in writers if tag == _A_GROUP)


def _is_own_group(gid: int) -> bool:
    """Returns whether the group is root's, or the user's own one of many systems, with no other member."""
    if gid == 0:
        return True
    try:
        group, user = grp.getgrgid(gid), pwd.getpwuid(os.geteuid())
    except KeyError:
        return False
    return gid == user.pw_gid and group.gr_name == user.pw_name and set(group.gr_mem) <= {user.pw_name}


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"


def _make_private(path: Path) -> None:
    try:
        status = path.lstat()
    except FileNotFoundError:
        return
    if stat.S_ISLNK(status.st_mode) or (stat.S_ISREG(status.st_mode) and status.st_uid != os.geteuid()):
        raise StateError(
            f"{path} is not safe: it is a link, or belongs to {_user(status.st_uid)}.",
            hint="Stop gpudrop, look who made it, and move it away.",
            where="state",
        )
    if stat.S_ISREG(status.st_mode) and status.st_mode & 0o077:
        path.chmod(stat.S_IMODE(status.st_mode) & 0o600)


def make_folder(folder: Path) -> None:
    """Makes the state folder private. Raises StateError, also if others could write there."""
    try:
        make_private_folder(folder)
    except OSError as e:
        raise folder_error(e, folder) from e


def make_file(path: Path) -> None:
    """Makes a private database file in the state folder. Raises StateError."""
    make_folder(path.parent)
    try:
        make_private_file(path)
    except OSError as e:
        raise folder_error(e, path.parent) from e


def folder_error(error: OSError, folder: Path) -> StateError:
    """Translates an error about the state folder or a file in it."""
    return StateError(
        f"The state folder {folder} cannot be used: {error.strerror or error}.",
        hint="Name another one as `state` in config.yaml, or make this one a folder that this program may write.",
        where="state",
    )


def prepare_sqlite(url: str, name: str) -> None:
    """Makes the file of a SQLite URL and sets WAL: twice the throughput, and readers beside the writer.

    Tries a write, because BEGIN may succeed where no write can. `name` is what messages call the file. Raises
    StateError for a file that cannot be read and written. Ignores other URLs.
    """
    if not url.startswith("sqlite:///"):
        return
    path = Path(url.removeprefix("sqlite:///"))
    make_file(path)
    try:
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            connection.execute("PRAGMA journal_mode=WAL")
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            connection.execute(f"PRAGMA user_version={version}")
    except sqlite3.Error as e:
        raise as_startup_error(sqlite_error(e, f"{name} {path}")) from e
