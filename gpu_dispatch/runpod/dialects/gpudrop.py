"""The dialect of gpudrop's own workers. `gpu_dispatch.worker.__main__` describes its JSON."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any, get_args

from pydantic import ValidationError

from gpu_dispatch.runpod.dialects.errors import failure_error, failure_text
from gpu_dispatch.runpod.dialects.values import lenient_fields, lenient_number, lenient_text
from gpu_dispatch.task import Capability, GpuResult, GpuTask, Progress, TaskParams
from gpu_dispatch.wire import result_from_wire, task_to_wire
from manifests.errors import ErrorInfo, GpuDropError

NAME = "gpudrop"

_WORKER_ERROR = re.compile(r"([a-z][a-z_]{2,39}): (.+)", re.DOTALL)


class GpudropDialect:
    name = NAME
    capabilities: frozenset[Capability] = frozenset(get_args(Capability))
    claims = True
    names_tasks = True

    def refusal(self, params: TaskParams) -> str:
        """Returns "": the endpoint's configured capabilities decide."""
        del params
        return ""

    def request(self, task: GpuTask) -> Any:
        return {"task": task_to_wire(task)}

    def progress(self, output: Any) -> Progress | None:
        fields = lenient_fields(output)
        percent = lenient_number(fields.get("percent"))
        if percent is None:
            return None
        return Progress(min(max(percent, 0.0), 100.0), lenient_text(fields.get("stage")))

    def result(self, job_id: str, output: Any, error: Any) -> GpuResult | None:
        given = lenient_fields(output).get("result")
        if given is not None and (result := _result(given)):
            return result if result.task_id else replace(result, task_id=job_id)
        return GpuResult(job_id, error=_error(error)) if error else None


def _result(given: Any) -> GpuResult | None:
    """Parses a result; None when it is none, as from a worker of another version or another project."""
    try:
        return result_from_wire(given)
    except ValidationError:
        return None


def _error(error: Any) -> ErrorInfo:
    """Parses the error of a job without a result: the worker's "code: message", or a report of the SDK or RunPod."""
    if found := _WORKER_ERROR.fullmatch(failure_text(error)):
        known = type(GpuDropError.from_info(ErrorInfo(code=found[1], message=found[2])))
        if known is not GpuDropError:
            return known(found[2]).info
    return failure_error(NAME, error).info
