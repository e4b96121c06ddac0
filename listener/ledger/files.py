"""The state's folder and its SQLite files: made, private, and tried before anything depends on them.

Whoever can replace a record decides what the listener does next: what lies there is as trusted as the program itself.
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

from listener.ledger.errors import at_the_start, sqlite_error
from manifests.errors import StateError

DATABASES = ("engine.sqlite", "ledger.sqlite")
LOCK = "lock"
SECRET = "secret"  # noqa: S105 - the name of a file
"""A copy of the installation's secret, for the case that the ledger is lost."""
_BESIDE = ("", "-wal", "-shm", "-journal")
_NEW = ".new"
FILES = frozenset({LOCK, SECRET, SECRET + _NEW, *(name + end for name in DATABASES for end in _BESIDE)})
"""All that a state's folder holds."""

_MOST_LINKS = 40
_A_USER, _A_GROUP = 0x02, 0x08
"""Entries of an access list that name one user, or one group."""
_MAY_WRITE = 2


def make_private_folder(folder: Path) -> None:
    """Makes `folder` where it is missing, for this user alone; one that holds nothing else becomes so.

    Raises StateError when somebody else could write there or replace it, and OSError.
    """
    check_private(folder)
    for above in reversed([each for each in folder.parents if not each.exists()]):
        above.mkdir(mode=0o700, exist_ok=True)
    try:
        folder.mkdir(mode=0o700)
    except FileExistsError:
        status = folder.stat()
        mode, ours = stat.S_IMODE(status.st_mode), status.st_uid == os.geteuid()
        # A folder that is used for other things, too, stays as it is: its files are private by themselves.
        if mode & 0o077 and ours and FILES.issuperset(file.name for file in folder.iterdir()):
            folder.chmod(mode & 0o700)
    check_private(folder)


def make_private_file(path: Path) -> None:
    """Makes `path` where it is missing, and what SQLite keeps beside it, readable and writable for this user alone.

    Raises StateError for a link, and for what is somebody else's. Opens nothing that is there: to close a file lets
    all locks go that this process has on it.
    """
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    except FileExistsError:
        for each in (path.with_name(path.name + end) for end in _BESIDE):
            _tighten(each)


def read_private(path: Path, most_bytes: int) -> bytes | None:
    """What a file holds that is this user's alone; None: it is missing, or longer. Raises StateError and OSError."""
    try:
        _tighten(path)
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    with os.fdopen(handle, "rb") as file:
        data = file.read(most_bytes + 1)
    return data if len(data) <= most_bytes else None


def write_private(path: Path, data: bytes) -> None:
    """All of `data` or nothing appears at `path`, for this user alone. Raises OSError."""
    new = path.with_name(path.name + _NEW)
    new.unlink(missing_ok=True)
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)


def check_private(folder: Path) -> None:
    """Raises StateError when somebody else can write in `folder`, or put another in its place. Changes nothing.

    Root is nobody else: a volume that is mounted for this program is often root's, and its group's to write.
    """
    for step, status in _way(folder):
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


def _way(folder: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """Every folder and link that leads to `folder`, itself last, as far as they exist."""
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
        # The last one is told by its own name, wherever links lead.
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
    """Who else may write, as a part of a sentence. In a sticky folder nobody replaces what is another's."""
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
    """Whether a POSIX access list lets others write: in the mode they look like the folder's group."""
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
    """Whether nobody else is in the group: root's own, or the one that many systems make for each user."""
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


def _tighten(path: Path) -> None:
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
    """Makes the state's folder where it is missing. Raises StateError, also where others could write there."""
    try:
        make_private_folder(folder)
    except OSError as e:
        raise folder_error(e, folder) from e


def make_file(path: Path) -> None:
    """Makes the file of a database in the state's folder where it is missing. Raises StateError."""
    make_folder(path.parent)
    try:
        make_private_file(path)
    except OSError as e:
        raise folder_error(e, path.parent) from e


def folder_error(error: OSError, folder: Path) -> StateError:
    """Why a file cannot be had in the state's folder, or the folder itself."""
    return StateError(
        f"The state folder {folder} cannot be used: {error.strerror or error}.",
        hint="Name another one as `state` in config.yaml, or make this one a folder that this program may write.",
        where="state",
    )


def prepare_sqlite(url: str, name: str) -> None:
    """Makes the file of a SQLite URL ready, in WAL: twice the throughput, and readers beside the writer.

    A write is tried, as to begin a transaction may succeed where none can be made. `name` is what the file is called.
    Raises StateError for a file that cannot be read and written. Other URLs are left alone.
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
        raise at_the_start(sqlite_error(e, f"{name} {path}")) from e
