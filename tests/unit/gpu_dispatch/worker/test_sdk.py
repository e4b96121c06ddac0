"""RunPod's SDK as the worker loads it."""

import subprocess
import sys

import pytest

from support.deadlines import HANG_S
from support.scripts import ROOT

pytest.importorskip("runpod", reason="The worker's SDK is not installed. Remedy: make env")

PROGRAM = """
import sys
from gpu_dispatch.worker.sdk import load_sdk
sdk = load_sdk()
from runpod.serverless.utils import rp_debugger
assert sdk.start and rp_debugger.PROCESSOR and "cpuinfo" not in sys.modules, rp_debugger.PROCESSOR
import cpuinfo
assert cpuinfo.get_cpu_info_json, "the package itself is there for whoever asks later"
"""


def test_it_is_loaded_without_measuring_the_cpu() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=ROOT, capture_output=True, text=True, timeout=HANG_S, check=False
    )
    assert done.returncode == 0, done.stderr
