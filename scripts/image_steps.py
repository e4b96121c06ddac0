"""A Dockerfile's own steps, carried out in a folder as far as that is possible without a builder. Part of check_images.

All stages share the folder, so what one stage copies from another is there already. Steps of pip and venv are run; what
is fetched (ADD) or asked of Debian is left out, and named.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

STEP_S = 1800.0
_PATHS = ("/opt/venv", "/build", "/dist")
"""Where the Dockerfiles put what they make; in RUN lines these stand for the same paths below the folder."""


@dataclass(frozen=True, slots=True)
class Instruction:
    word: str
    rest: str

    @property
    def flags(self) -> list[str]:
        return [part for part in shlex.split(self.rest) if part.startswith("--")]

    @property
    def arguments(self) -> list[str]:
        return [part for part in shlex.split(self.rest) if not part.startswith("--")]

    @property
    def script(self) -> str:
        """Of a RUN: the shell's part, without the flags before it."""
        return re.sub(r"^(--\S+\s+)+", "", self.rest)


def instructions(text: str) -> Iterator[Instruction]:
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    for line in joined.splitlines():
        word, _, rest = line.strip().partition(" ")
        yield Instruction(word.upper(), rest.strip())


def packages_of_debian(text: str) -> list[str]:
    """NAME=VERSION of every package that an `apt-get install` names."""
    runs = (i.script for i in instructions(text) if i.word == "RUN" and "apt-get install" in i.rest)
    return sorted({part for run in runs for part in run.split() if re.fullmatch(r"[a-z0-9.+-]+=\S+", part)})


@dataclass(slots=True)
class Folder:
    """`context` is the build's context. `environment` is what the last stage sets; `left_out` what was not done."""

    root: Path
    context: Path
    environment: dict[str, str] = field(default_factory=dict[str, str])
    left_out: list[str] = field(default_factory=list[str])
    _directory: Path = field(init=False)
    _system: Path = field(init=False)

    def __post_init__(self) -> None:
        self._directory = self.root
        self._system = self.root / "system"
        subprocess.run([sys.executable, "-m", "venv", "--symlinks", self._system], check=True, timeout=STEP_S)

    def build(self, dockerfile: Path) -> None:
        stages: dict[str, dict[str, str]] = {}
        for each in instructions(dockerfile.read_text("utf-8")):
            match each.word:
                case "FROM":
                    image, _, stage = each.rest.partition(" AS ")
                    self._directory = self.root
                    self.environment = stages[stage] = dict(stages.get(image, {}))
                case "ENV":
                    self.environment.update(part.split("=", 1) for part in each.arguments)
                case "WORKDIR":
                    self._directory = self._inside(each.rest)
                    self._directory.mkdir(parents=True, exist_ok=True)
                case "COPY" if not any(flag.startswith("--from") for flag in each.flags):
                    self._copy(each.arguments)
                case "RUN" if "pip " in each.script or " venv " in each.script:
                    self.run("sh", "-ec", self._moved(each.script))
                case "RUN" | "ADD":
                    self.left_out.append(f"{each.word} {' '.join(each.arguments)[:100]}")
                case _:
                    pass

    def run(self, *command: str, **variables: str) -> str:
        """What it printed. Raises CalledProcessError."""
        done = subprocess.run(
            command,
            check=True,
            cwd=self._directory,
            env=self.variables(**variables),
            stdout=subprocess.PIPE,
            text=True,
            timeout=STEP_S,
        )
        return done.stdout

    def variables(self, **more: str) -> dict[str, str]:
        """The image's own variables, moved below the folder, over those that pip needs here."""
        moved = {name: self._moved(value) for name, value in self.environment.items() if name != "PATH"}
        in_image = str(self.root / "opt/venv/bin") + os.pathsep if "PATH" in self.environment else ""
        passed = {k: v for k, v in os.environ.items() if re.match(r"(PIP|SSL|HOME|LANG|REQUESTS|\w+_proxy)", k, re.I)}
        return {**passed, **moved, "PATH": f"{in_image}{self._system / 'bin'}{os.pathsep}{os.environ['PATH']}", **more}

    def _inside(self, path: str) -> Path:
        return self.root / path.lstrip("/") if path.startswith("/") else self._directory / path

    def _moved(self, text: str) -> str:
        return re.sub("|".join(_PATHS), lambda found: f"{self.root}{found[0]}", text)

    def _copy(self, paths: list[str]) -> None:
        *sources, target = paths
        for source in sources:
            into = self._inside(target)
            into = into / Path(source).name if target.endswith(("/", ".")) else into
            into.parent.mkdir(parents=True, exist_ok=True)
            if (self.context / source).is_dir():
                shutil.copytree(self.context / source, into, dirs_exist_ok=True)
            else:
                shutil.copy2(self.context / source, into)
