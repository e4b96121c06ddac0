"""Reads one hostile document and tells what that took: reader_program.py FORMAT SHAPE BYTES [STYLE], or --shapes.

Prints {"took_s", "grown", "outcome"}: CPU seconds, bytes by which the process grew at most, and the error's code.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from typing import Any

from handlers.base import Input, Plan, Planning
from handlers.registry import own_handlers
from manifests.errors import GpuDropError
from manifests.models import Caption
from manifests.reader import read_manifest
from manifests.references import ObjectRef
from support.hostile_documents import MANIFESTS, SUBTITLES


def planned(content: bytes, style: Any) -> Plan:
    handler = next(h for h in own_handlers() if h.operation == "caption")
    inputs = {
        "video": Input(ObjectRef("b", "v.mp4"), 1),
        "srt": Input(ObjectRef("b", "s.srt"), len(content), content),
    }
    return handler.plan(Planning(Caption(video="v.mp4", srt="s.srt", style=style), "talk", "b", "", inputs))


def main() -> None:
    if sys.argv[1:] == ["--shapes"]:
        print(json.dumps({form: list(shapes) for form, shapes in {**SUBTITLES, **MANIFESTS}.items()}))
        return
    form, shape, size = sys.argv[1], sys.argv[2], int(sys.argv[3])
    data = {**SUBTITLES, **MANIFESTS}[form][shape](size)
    before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    try:
        if form in SUBTITLES:
            planned(data, sys.argv[4] if len(sys.argv) > 4 else "plain")
        else:
            read_manifest(data, f"talk.{form}")
        outcome = "read"
    except GpuDropError as e:
        outcome = f"{e.info.code}: {str(e)[:90]}"
    except Exception as e:  # noqa: BLE001 - told
        outcome = f"DEFECT {e!r}"[:120]
    took = time.process_time() - began
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    print(json.dumps({"took_s": took, "grown": grown, "outcome": outcome}))


if __name__ == "__main__":
    main()
