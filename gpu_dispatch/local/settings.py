"""Settings of the local backend, and the command line and environment of its child processes."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from gpu_dispatch.cores import usable_cores
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
    """Settings of the local backend."""

    name: str = "local"
    slots: Mapping[Capability, int] = field(default_factory=_one_each)
    """Tasks of a capability that run at once, each in its own child process."""
    file_root: Path | None = None
    model_dir: Path | None = None
    """None: the worker finds models by itself."""
    models: Mapping[str, Path] = field(default_factory=dict[str, Path])
    """A model's folder or checkpoint by its name; comes before `model_dir`."""
    allow_download: bool = True
    device: Literal["auto", "cpu", "cuda"] = "auto"
    ffmpeg: str | None = None
    """None: the worker finds it by itself."""
    threads: int = 0
    """Threads of one child; 0 shares the machine's cores between the slots of a capability."""
    niceness: int = 5
    idle_s: float = 300.0
    """Seconds without work after which a child is ended, to free its memory."""
    python: str = sys.executable
    work_parent: Path | None = None
    """Parent of the jobs' private folders; None: the system's folder for temporary files."""
    cancel_grace_s: float = 0.8
    """Seconds a cancelled job has to end by itself before its processes are killed."""
    timeout_grace_s: float = 15.0
    """Seconds an overdue worker has to end its task itself before it is killed."""
    keep_results: int = 100
    memory: int = 0
    """Bytes the processes of one job may take; 0: `gpu_dispatch.local.limits.default_memory`."""
    disk: int = 0
    """Bytes a job may have in its folder; 0: `gpu_dispatch.local.limits.free_disk` at its start."""
    processes: int = 100
    express_after_s: float = 30.0
    """Seconds after which a short job that no slot has taken goes to the express slot."""
    express_s: float = 120.0
    """Seconds after which a job that is not done there goes back to the queue."""
    sandbox: Sandbox | None = None
    """Namespaces of the workers; None: they only give up rights (`gpu_dispatch.worker.confinement`)."""
    gpu: bool = field(default_factory=lambda: Path("/dev/nvidiactl").exists())
    """Whether there is a GPU: then speech has no express slot, which would put a second model into its memory."""

    def threads_of(self, capability: Capability) -> int:
        """Returns the threads of one child. Speech and video share the cores: a fair split would leave some idle."""
        return self.threads or max(1, usable_cores() // max(1, self.slots[capability]))


def child_command(settings: LocalSettings, work_root: Path) -> tuple[str, ...]:
    """Returns a child's command. -P: users' files in the working directory are no modules. Raises EngineUnavailable."""
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
    """Returns a child's environment: where programs, libraries and models are, but no key of a store or service."""
    kept = {name: value for name, value in environ.items() if _INHERITED.fullmatch(name) and not _SECRET.search(name)}
    package_root = str(Path(__file__).resolve().parents[2])
    path = os.pathsep.join(filter(None, (package_root, kept.get("PYTHONPATH", ""))))
    computing = {"OMP_NUM_THREADS": str(threads), "OMP_WAIT_POLICY": "PASSIVE"}
    return {**computing, **kept, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1"}
