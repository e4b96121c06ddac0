"""What the programs of an installed image must be able to do. Part of check_images.py: each proof says what it saw."""

from __future__ import annotations

import base64
import io
import json
import math
import os
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
import wave
from collections.abc import Callable
from pathlib import Path

from image_steps import Folder

Proof = Callable[[Folder], str]

START_S = 30.0
STOP_S = 5.0
UID = 10001


def starts(folder: Folder) -> str:
    folder.run("gpudrop", "--help")
    return "gpudrop starts"


def has_no_workers_libraries(folder: Folder) -> str:
    names = ("numpy", "cv2", "PIL", "faster_whisper", "torch", "imageio_ffmpeg")
    code = f"import importlib.util as u; print(*(n for n in {names} if u.find_spec(n)))"
    found = folder.run("python", "-c", code).strip()
    if found:
        raise RuntimeError(f"the listener's image holds {found}")
    return "holds no library that only workers need"


def runs_read_only(folder: Folder) -> str:
    """As an unprivileged user, every file system read-only but /tmp and the state, ended by SIGTERM."""
    if sys.platform != "linux" or os.geteuid() != 0 or not shutil.which("unshare") or not shutil.which("setpriv"):
        return "not done here: a read-only start needs root on Linux"
    with tempfile.TemporaryDirectory(prefix="gpudrop-state-") as scratch:
        state = Path(scratch)
        (state / "drop").mkdir()
        config = state / "config.yaml"
        config.write_text(f"store: {{kind: folder, root: {state}/drop}}\nstate: {state}/state\n")
        for path in (state, state / "drop"):
            os.chown(path, UID, UID)
        script = (
            "set -e; "
            f"mount --bind {state} {state}; "
            "for m in $(awk '$2 !~ \"^/(proc|sys|dev)\" {print $2}' /proc/self/mounts); do"
            f" [ $m = {state} ] || mount -o remount,bind,ro $m 2>/dev/null || true; done; "
            f"if touch {folder.root}/written 2>/dev/null; then exit 97; fi; "
            f"exec setpriv --reuid {UID} --regid {UID} --clear-groups --no-new-privs --bounding-set=-all gpudrop run"
        )
        command = ["unshare", "--mount", "--propagation", "private", "sh", "-c", script]
        variables = folder.variables(GPUDROP_CONFIG=str(config), HOME=scratch, TMPDIR=scratch)
        process = subprocess.Popen(command, cwd=state, env=variables, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        try:
            healthy_s = _until_healthy(folder, variables, process)
            started = time.monotonic()
            process.send_signal(signal.SIGTERM)
            process.wait(STOP_S)
            took = time.monotonic() - started
        finally:
            process.kill()
            output = process.communicate()[0].decode("utf-8", "replace")
        if process.returncode != 0:
            raise RuntimeError(f"the listener ended with {process.returncode}:\n{output}")
    return f"runs as uid {UID} on a read-only system; well after {healthy_s:.1f} s; ended {took:.1f} s after SIGTERM"


def _until_healthy(folder: Folder, variables: dict[str, str], process: subprocess.Popen[bytes]) -> float:
    """The image's own health check, until it is content."""
    started = time.monotonic()
    check = [str(folder.root / "opt/venv/bin/python"), str(folder.root / "opt/healthcheck.py")]
    while True:
        asked = subprocess.run(check, check=False, env=variables, capture_output=True, text=True, timeout=START_S)
        if asked.returncode == 0:
            return time.monotonic() - started
        if process.poll() is not None or time.monotonic() > started + START_S:
            raise RuntimeError(f"the listener is not well: {asked.stdout}{asked.stderr}")
        time.sleep(0.3)


def worker_refuses_nonsense(folder: Folder) -> str:
    said = _worker(folder, {})
    if "task_refused" not in said:
        raise RuntimeError(f"the worker took nonsense:\n{said}")
    return "the worker starts under RunPod's SDK and refuses input that is no task"


def transcribes(folder: Folder) -> str:
    """With the small model of scripts/models.py, on this machine's processor."""
    here = {name: value for name, value in os.environ.items() if name != "GPUDROP_MODEL_DIR"}
    models = subprocess.run(
        [
            str(folder.root / "opt/venv/bin/python"),
            str(Path(__file__).with_name("models.py")),
            "--openai",
            "--transformers",
        ],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        env=here,
    ).stdout.strip()
    seen: list[str] = []
    for engine in ("faster-whisper", "openai-whisper", "transformers"):
        params = {"operation": "transcribe", "audio": "a.wav", "model": "tiny.en", "engine": engine, "vad": False}
        inputs = [{"name": "a.wav", "url": f"data:audio/wav;base64,{_tone()}"}]
        task = {"task_id": "image-proof", "params": params, "inputs": inputs}
        said = _worker(folder, {"task": task}, GPUDROP_MODEL_DIR=models)
        if f"'engine': '{engine}'" not in said and f'"engine": "{engine}"' not in said:
            raise RuntimeError(f"{engine} did not answer:\n{said}")
        seen.append(engine)
    return f"the worker transcribes with {' and '.join(seen)}"


def finds_cuda_libraries(folder: Folder) -> str:
    code = (
        "import ctypes; [ctypes.CDLL(n) for n in ('libcublas.so.12', 'libcudnn.so.9', 'libcudart.so.12')]; "
        "import torch; print(torch.__version__, torch.version.cuda)"
    )
    return f"cuBLAS 12, cuDNN 9 and the CUDA 12 runtime load by name; torch {folder.run('python', '-c', code).strip()}"


def video_is_ready(folder: Folder) -> str:
    """With this machine's ffmpeg; that of the image is the same package on Debian 12."""
    said = json.loads(folder.run("python", "-m", "gpu_dispatch.worker.video.report").strip().splitlines()[-1])
    if said["problem"]:
        raise RuntimeError(said["problem"])
    return f"video: {said['version']}, encoder {said['encoder']}, font {said['font']}"


def requires_nvenc(folder: Folder) -> str:
    """The worker must not start where NVENC does not work."""
    said = _worker(folder, None)
    if "nvenc" not in said.lower():
        raise RuntimeError(f"the worker started without NVENC:\n{said}")
    return "the worker ends itself where NVENC does not work"


def _worker(folder: Folder, given: dict[str, object] | None, **variables: str) -> str:
    """What the worker prints about one job; None: about its start, with a queue that nobody answers."""
    test = ("--test_input", json.dumps({"id": "proof", "input": given})) if given is not None else ()
    environment = folder.variables(GPUDROP_DEVICE="cpu", RUNPOD_LOG_LEVEL="DEBUG", **variables)
    if given is not None:
        environment.pop("GPUDROP_WARM_MODEL", None)
        environment.pop("GPUDROP_REQUIRE_NVENC", None)
    else:
        nobody = "http://127.0.0.1:9/$ID"
        environment |= {"RUNPOD_WEBHOOK_GET_JOB": nobody, "RUNPOD_WEBHOOK_PING": nobody, "RUNPOD_POD_ID": "proof"}
        environment |= {"RUNPOD_SKIP_GPU_CHECK": "true", "RUNPOD_SKIP_AUTO_SYSTEM_CHECKS": "true"}
    with tempfile.TemporaryDirectory(prefix="gpudrop-worker-") as scratch:
        done = subprocess.run(
            ["python", "-P", "-m", "gpu_dispatch.worker", *test],
            check=False,
            cwd=scratch,
            env=environment | {"HOME": scratch, "TMPDIR": scratch},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=300,
        )
    return done.stdout


def _tone() -> str:
    """Two seconds of a low tone."""
    file = io.BytesIO()
    with wave.open(file, "wb") as sound:
        sound.setparams((1, 2, 16000, 0, "NONE", ""))
        samples = (int(8000 * math.sin(i * 2 * math.pi * 220 / 16000)) for i in range(32000))
        sound.writeframes(b"".join(struct.pack("<h", s) for s in samples))
    return base64.b64encode(file.getvalue()).decode()


PROOFS: dict[str, tuple[Proof, ...]] = {
    "listener": (starts, has_no_workers_libraries, runs_read_only),
    "nvenc": (worker_refuses_nonsense, video_is_ready, requires_nvenc),
    "whisper": (starts, finds_cuda_libraries, worker_refuses_nonsense, transcribes),
}
