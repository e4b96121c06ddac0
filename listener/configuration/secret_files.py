"""Files that hold secrets: one value a file, as Docker and Kubernetes mount them, or lines of NAME=value."""

from __future__ import annotations

import re
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from manifests.errors import ConfigError

ENV_FILE = "GPUDROP_ENV_FILE"
"""Names a file with lines of NAME=value that stand before the variables of the process."""

_MAX_BYTES = 64 * 1024
_ATTEMPTS = 3
_LINE = re.compile(r"\s*(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)\s*=\s*(.*?)\s*")
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class SecretStamp:
    """What changes with a file: also when another one takes its place."""

    inode: int
    modified_ns: int
    size: int


class SecretFiles:
    """Reads files named by variables and remembers which, and how they were: `changed` tells when to read again."""

    def __init__(self) -> None:
        self.stamps: dict[Path, SecretStamp] = {}

    def changed(self) -> bool:
        return any(_stamp(path) != stamp for path, stamp in self.stamps.items())

    @property
    def newest_s(self) -> float:
        """When the file that changed last did so, in seconds since 1970; 0 without files."""
        return max((stamp.modified_ns for stamp in self.stamps.values()), default=0) / 1e9

    def lines(self, environ: Mapping[str, str]) -> dict[str, str]:
        """What the file named by GPUDROP_ENV_FILE sets. Raises ConfigError when it cannot be read."""
        return parse_lines(self._text(environ[ENV_FILE], ENV_FILE)) if environ.get(ENV_FILE) else {}

    def value(self, path: str, variable: str) -> str:
        """The one value in `path`, which `variable` names. Raises ConfigError when it is no text of one line."""
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
    """What `read` makes of its files, all as they were at one moment. Raises ConfigError, also while they change."""
    changing = ""
    for _ in range(_ATTEMPTS):
        files = SecretFiles()
        found = read(files)
        if not files.changed():
            return found, files
        changing = ", ".join(map(str, files.stamps))
    raise ConfigError(f"{changing}: changed while being read.", hint="Replace them by renaming.", where=changing)


def parse_lines(text: str) -> dict[str, str]:
    """NAME=value, one a line; "export " before it, quotes around the value and " # …" after it are taken off.

    Nothing is expanded. Other lines are left out.
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
