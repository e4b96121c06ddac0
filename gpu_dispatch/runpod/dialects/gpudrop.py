"""Endpoints with gpudrop's own workers. The shapes are those that gpu_dispatch.worker tells of in its docstring."""

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
        """They can do whatever their endpoint is said to be capable of."""
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
    """None for what is no result: the worker is of another version, or none of ours."""
    try:
        return result_from_wire(given)
    except ValidationError:
        return None


def _error(error: Any) -> ErrorInfo:
    """Of a job whose result is lost: "code: message" where the worker had its say, or what the SDK or RunPod report."""
    if found := _WORKER_ERROR.fullmatch(failure_text(error)):
        known = type(GpuDropError.from_info(ErrorInfo(code=found[1], message=found[2])))
        if known is not GpuDropError:
            return known(found[2]).info
    return failure_error(NAME, error).info
