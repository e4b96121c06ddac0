"""How the local backend is set up, and what its child processes are given: a command line, an environment."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from gpu_dispatch.local.sandbox import Sandbox, sandboxed
from gpu_dispatch.task import Capability

_MODULE = "gpu_dispatch.worker.child"

_INHERITED = re.compile(
    r"PATH|HOME|USER|LOGNAME|LANG|LANGUAGE|LC_\w+|TZ|TMPDIR|XDG_\w+"  # where things are, for people
    r"|(PYTHON|VIRTUAL_ENV|LD_LIBRARY|DYLD)\w*"  # where code is
    r"|(CUDA|NVIDIA|NV|CUDNN|CT2|TORCH|PYTORCH|OMP|MKL|OPENBLAS|KMP)_\w+"  # how it computes
    r"|(HF|HUGGINGFACE|TRANSFORMERS)_\w+"  # where models are
    r"|(https?|no|all)_proxy|SSL_CERT_\w+|REQUESTS_CA_BUNDLE|CURL_CA_BUNDLE"  # how models are fetched
    r"|FONTCONFIG_\w+|GPUDROP_(FFMPEG|MODEL)\w*",
    re.IGNORECASE,
)
_SECRET = re.compile(r"SECRET|KEY|TOKEN|PASSW|CREDENTIAL", re.IGNORECASE)


def _one_each() -> Mapping[Capability, int]:
    return {"whisper": 1, "nvenc": 1}


@dataclass(frozen=True, slots=True)
class LocalSettings:
    """`slots` is how many tasks of a kind run at once, each in a child process of its own.

    `idle_s`: a child without work is ended after so long, to give its memory back. `threads` are those a child computes
    with; 0 shares the machine's cores between the slots of a kind. `ffmpeg` and `model_dir` None: what the worker finds
    by itself.
    """

    name: str = "local"
    slots: Mapping[Capability, int] = field(default_factory=_one_each)
    file_root: Path | None = None
    model_dir: Path | None = None
    models: Mapping[str, Path] = field(default_factory=dict[str, Path])
    """A model's name → its folder or checkpoint; comes before `model_dir`."""
    allow_download: bool = True
    device: Literal["auto", "cpu", "cuda"] = "auto"
    ffmpeg: str | None = None
    threads: int = 0
    niceness: int = 5
    idle_s: float = 300.0
    python: str = sys.executable
    work_parent: Path | None = None
    """Where jobs have their private folders; None: the system's folder for temporary files."""
    cancel_grace_s: float = 0.8
    """How long a cancelled job may take to end by itself before its processes are killed."""
    timeout_grace_s: float = 15.0
    """A worker ends an overdue task itself; after so long more it is killed."""
    keep_results: int = 100
    memory: int = 0
    """Bytes the processes of one job may take; 0: `local_limits.default_memory`."""
    disk: int = 0
    """Bytes a job may have in its folder; 0: `local_limits.free_disk` at its start."""
    processes: int = 100
    express_after_s: float = 30.0
    """A short job that no slot has taken for so long is done beside them, in one more."""
    express_s: float = 120.0
    """A job that is not done there by then waits for its turn after all."""
    sandbox: Sandbox | None = None
    """Workers run in namespaces of their own; None: only with less rights."""
    gpu: bool = field(default_factory=lambda: Path("/dev/nvidiactl").exists())
    """Where there is one, no second model is put beside the first into its memory: speech has no express slot."""

    def threads_of(self, capability: Capability) -> int:
        """Speech and video share the cores: a core that waits for the other kind is worth more than a fair split."""
        return self.threads or max(1, _cores() // max(1, self.slots[capability]))


def child_command(settings: LocalSettings, work_root: Path) -> tuple[str, ...]:
    """Without the working directory on Python's path (-P): users' files lie there. Raises EngineUnavailable."""
    options: dict[str, object] = {
        "--work-root": work_root,
        "--file-root": settings.file_root,
        "--model-dir": settings.model_dir,
        "--ffmpeg": settings.ffmpeg,
        "--device": settings.device,
        "--nice": settings.niceness,
    }
    given = [part for name, value in options.items() if value is not None for part in (name, str(value))]
    models = [part for name, path in settings.models.items() for part in ("--model", f"{name}={path}")]
    offline = () if settings.allow_download else ("--offline",)
    command = (settings.python, "-P", "-m", _MODULE, *given, *models, *offline)
    return sandboxed(command, settings.sandbox, work_root) if settings.sandbox else command


def child_environment(environ: Mapping[str, str], threads: int) -> dict[str, str]:
    """What a child may know: where programs, libraries and models are. No key of a store or a service is among it."""
    kept = {name: value for name, value in environ.items() if _INHERITED.fullmatch(name) and not _SECRET.search(name)}
    package_root = str(Path(__file__).resolve().parents[2])
    path = os.pathsep.join(filter(None, (package_root, kept.get("PYTHONPATH", ""))))
    computing = {"OMP_NUM_THREADS": str(threads), "OMP_WAIT_POLICY": "PASSIVE"}
    return {**computing, **kept, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1"}


def _cores() -> int:
    """Those this process may use; a container's share is often less than the machine's."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
