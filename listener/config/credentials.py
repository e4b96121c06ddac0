"""Secrets in files, and the store's keys, which may be replaced while the listener runs."""

from __future__ import annotations

import re
import stat
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import structlog

from manifests.errors import ConfigError

ENV_FILE = "GPUDROP_ENV_FILE"
"""Names a file with lines of NAME=value, which override the variables of the process."""

_MAX_BYTES = 64 * 1024
_ATTEMPTS = 3
_LINE = re.compile(r"\s*(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)\s*=\s*(.*?)\s*")
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class SecretStamp:
    """What changes when a file is written or replaced."""

    inode: int
    modified_ns: int
    size: int


class SecretFiles:
    """Reads files named by variables, and knows whether they have changed since."""

    def __init__(self) -> None:
        self.stamps: dict[Path, SecretStamp] = {}

    def changed(self) -> bool:
        return any(_stamp(path) != stamp for path, stamp in self.stamps.items())

    @property
    def newest_s(self) -> float:
        """The latest modification, in seconds since 1970; 0 without files."""
        return max((stamp.modified_ns for stamp in self.stamps.values()), default=0) / 1e9

    def lines(self, environ: Mapping[str, str]) -> dict[str, str]:
        """Reads the file named by GPUDROP_ENV_FILE. Raises ConfigError when it cannot be read."""
        return parse_lines(self._text(environ[ENV_FILE], ENV_FILE)) if environ.get(ENV_FILE) else {}

    def value(self, path: str, variable: str) -> str:
        """Reads the value in `path`, which `variable` names. Raises ConfigError unless it is one line of text."""
        text = self._text(path, variable).strip()
        if not text.isprintable():
            raise _unusable(path, variable, "it holds more than one line of text")
        return text

    def _text(self, path: str, variable: str) -> str:
        file = Path(path).expanduser()
        self.stamps[file] = _stamp(file) or SecretStamp(0, 0, 0)
        try:
            if not stat.S_ISREG(file.stat().st_mode):
                raise _unusable(path, variable, "it is no file")
            with file.open("rb") as opened:
                data = opened.read(_MAX_BYTES + 1)
            if len(data) > _MAX_BYTES:
                raise _unusable(path, variable, f"it has more than {_MAX_BYTES} bytes")
            return data.decode("utf-8-sig")
        except UnicodeDecodeError as e:
            raise _unusable(path, variable, "it is not UTF-8") from e
        except OSError as e:
            raise _unusable(path, variable, (e.strerror or str(e)).lower()) from e


def read_together(read: Callable[[SecretFiles], _T]) -> tuple[_T, SecretFiles]:
    """Calls `read` until none of its files changes meanwhile, three times at most. Raises ConfigError."""
    changing = ""
    for _ in range(_ATTEMPTS):
        files = SecretFiles()
        found = read(files)
        if not files.changed():
            return found, files
        changing = ", ".join(map(str, files.stamps))
    raise ConfigError(f"{changing}: changed while being read.", hint="Replace them by renaming.", where=changing)


def parse_lines(text: str) -> dict[str, str]:
    """Parses lines of NAME=value without "export ", quotes around the value, and " # …".

    Nothing is expanded. Other lines are ignored.
    """
    found: dict[str, str] = {}
    for line in text.splitlines():
        if match := _LINE.fullmatch(line):
            name, value = match[1], match[2]
            quoted = re.fullmatch(r"""(["'])(.*?)\1(?:\s+#.*)?""", value)
            found[name] = quoted[2] if quoted else re.sub(r"(^|\s+)#.*", "", value)
    return found


def _stamp(path: Path) -> SecretStamp | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return SecretStamp(status.st_ino, status.st_mtime_ns, status.st_size)


def _unusable(path: str, variable: str, why: str) -> ConfigError:
    return ConfigError(
        f"{path}, which {variable} names, cannot be used: {why}.",
        hint="Put the secret alone into that file, readable for gpudrop; or unset the variable."
        if variable != ENV_FILE
        else "Put lines of NAME=value into that file, readable for gpudrop; or unset the variable.",
        where=variable,
    )


log: structlog.stdlib.BoundLogger = structlog.get_logger("listener.credentials")

ACCESS_KEY = "GPUDROP_S3_ACCESS_KEY"
SECRET_KEY = "GPUDROP_S3_SECRET_KEY"  # noqa: S105 - the name of a variable
SESSION_TOKEN = "GPUDROP_S3_SESSION_TOKEN"  # noqa: S105 - the name of a variable
FILE = "_FILE"

PARTNER_S = 5.0
"""Seconds that a new access key waits for its secret key, when they are in separate files."""

_ACCESS_NAMES = (ACCESS_KEY, "AWS_ACCESS_KEY_ID", "MINIO_ACCESS_KEY", "MINIO_ROOT_USER")
_SECRET_NAMES = (SECRET_KEY, "AWS_SECRET_ACCESS_KEY", "MINIO_SECRET_KEY", "MINIO_ROOT_PASSWORD")
_HINT = f"Set {ACCESS_KEY} and {SECRET_KEY} in the environment, or name files with them: {ACCESS_KEY}{FILE} and so on."


@dataclass(frozen=True, slots=True)
class AccessKeys:
    """The store's keys, whose secrets stay out of logs and tracebacks."""

    access_key: str
    secret_key: str = field(repr=False)
    session_token: str | None = field(default=None, repr=False)
    """Of temporary keys."""


Keys = Callable[[], AccessKeys]
"""Returns the current keys. It may read files or ask a server, so it is called on a thread."""


class KeyRing:
    """The current keys, from the first of three places that has them.

    The places: files named by GPUDROP_S3_ACCESS_KEY_FILE, GPUDROP_S3_SECRET_KEY_FILE and GPUDROP_S3_SESSION_TOKEN_FILE;
    the lines of the file named by GPUDROP_ENV_FILE; the variables. Files are read again when they change. A failure to
    read is logged once, and the last good keys stay.
    """

    def __init__(self, environ: Mapping[str, str], *, now: Callable[[], float] = time.time) -> None:
        self._environ = dict(environ)
        self._now = now
        self._lock = threading.Lock()
        self._keys: AccessKeys | None = None
        self._files = SecretFiles()
        self._told = ""

    def current(self) -> AccessKeys:
        """Returns the keys, on any thread, after one stat of each file. Raises ConfigError until some were read."""
        with self._lock:
            if self._keys is None:
                self._keys, self._files = read_together(self._read)
            elif self._files.changed():
                self._keys = self._renewed(self._keys)
            return self._keys

    def _renewed(self, known: AccessKeys) -> AccessKeys:
        try:
            found, files = read_together(self._read)
        except ConfigError as e:
            if str(e) != self._told:
                self._told = str(e)
                log.warning("keys_not_read", error=str(e), hint=e.info.hint, consequence="the keys known so far stay")
            return known
        if len(files.stamps) > 1 and _half(known, found) and abs(self._now() - files.newest_s) < PARTNER_S:
            return known
        self._files, self._told = files, ""
        if found != known:
            log.info("keys_changed")
        return found

    def _read(self, files: SecretFiles) -> AccessKeys:
        lines = files.lines(self._environ)
        variables = {**self._environ, **lines}
        alone = {
            name: files.value(variables[name + FILE], name + FILE)
            for name in (ACCESS_KEY, SECRET_KEY, SESSION_TOKEN)
            if variables.get(name + FILE)
        }
        return _resolved((alone, lines, self._environ))


def _resolved(layers: Sequence[Mapping[str, str]]) -> AccessKeys:
    access, origin = _first(layers, _ACCESS_NAMES)
    secret, _ = _first(layers, _SECRET_NAMES)
    if not access or not secret:
        missing = SECRET_KEY if access else ACCESS_KEY
        raise ConfigError("There are no keys for the store.", hint=_HINT, where=missing)
    if SESSION_TOKEN in layers[0]:
        return AccessKeys(access, secret, layers[0][SESSION_TOKEN] or None)
    # A token works only with the access key it was issued with.
    token = origin.get(SESSION_TOKEN) or (access == origin.get("AWS_ACCESS_KEY_ID") and origin.get("AWS_SESSION_TOKEN"))
    return AccessKeys(access, secret, token or None)


def _first(layers: Sequence[Mapping[str, str]], names: Sequence[str]) -> tuple[str, Mapping[str, str]]:
    """Returns the value of the first name in the first layer that has one, and that layer.

    An empty file of a key's own counts as a value.
    """
    for layer in layers:
        for name in names:
            if layer.get(name) or (layer is layers[0] and name in layer):
                return layer[name], layer
    return "", {}


def _half(known: AccessKeys, found: AccessKeys) -> bool:
    """Whether only some of the keys are new: the others may be about to be written."""
    pairs = [(known.access_key, found.access_key), (known.secret_key, found.secret_key)]
    if known.session_token or found.session_token:
        pairs.append((known.session_token or "", found.session_token or ""))
    return len({old == new for old, new in pairs}) > 1
