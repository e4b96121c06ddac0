"""What jobs are expected to cost and may cost, and the errors of those that cost more. Money is in US dollars."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime

from gpu_dispatch.endpoints import EndpointSpec
from gpu_dispatch.task import GpuResult
from listener.dispatch.estimates import Estimates
from listener.dispatch.request import JobRequest
from listener.ledger.job_rows import JobRow
from listener.ledger.quotas import QuotaLimits, QuotaRefusal
from manifests.errors import BudgetExceeded, ErrorInfo, TaskTimedOut

_NEARLY = 0.9
"""A job that was timed out after this share of its budget was ended by the budget: the worker's clock is not ours."""


@dataclass(frozen=True, slots=True)
class Budgets:
    """The operator's limits."""

    per_job: float | None = None
    """None: no limit."""
    per_day: float | None = None
    """None: no limit."""

    def limits(self, request: JobRequest, spec: EndpointSpec) -> QuotaLimits:
        """Returns the limits of a job at `spec`; one that costs nothing has no budget."""
        free = spec.usd_per_s == 0
        return QuotaLimits(spec.concurrency, None if free else request.day_usd, None if free else self.per_day)

    def seconds(self, spec: EndpointSpec, at_most_s: float) -> float:
        """Returns how many seconds a job may work at `spec`."""
        if self.per_job is None or spec.usd_per_s == 0:
            return at_most_s
        return min(at_most_s, self.per_job / spec.usd_per_s)

    def too_expensive(self, estimate_usd: float, spec: EndpointSpec) -> BudgetExceeded | None:
        """Returns why a job is not even begun at `spec`; None: it may be."""
        if self.per_job is None or estimate_usd <= self.per_job:
            return None
        return BudgetExceeded(
            f"The job would cost about {dollars(estimate_usd)} at {spec.name}; a job may cost {dollars(self.per_job)}.",
            hint="Use a shorter input or a cheaper endpoint, or raise budgets.per_job in config.yaml.",
        )

    def explained(self, error: ErrorInfo, row: JobRow, result: GpuResult | None) -> ErrorInfo:
        """Returns `error`, or BudgetExceeded if the job used up its budget."""
        cap = self.per_job
        if error.code != TaskTimedOut.code or cap is None or not result:
            return error
        usd = cost_usd(result.execution_ms, row.usd_per_s)
        if usd < _NEARLY * cap:
            return error
        return BudgetExceeded(
            f"The job was ended at {row.endpoint} after {dollars(usd)}; a job may cost {dollars(cap)}.",
            hint="Use a shorter input or a cheaper endpoint, or raise budgets.per_job in config.yaml.",
        ).info


@dataclass(frozen=True, slots=True)
class CostModel:
    """Expected costs, learned from jobs that were done, and the limits."""

    estimates: Estimates
    budgets: Budgets

    def estimate_usd(self, request: JobRequest, spec: EndpointSpec, units: float) -> float:
        """Returns what the task is expected to cost at `spec`; `units` is the amount of work."""
        return self.estimates.seconds(request.operation, request.detail, spec.name, units) * spec.usd_per_s


def cost_usd(execution_ms: int, usd_per_s: float) -> float:
    """Returns a lower bound: workers are billed from their start to their stop, idle time and loading of models
    included."""
    return max(0, execution_ms) / 1000.0 * usd_per_s


def dollars(usd: float) -> str:
    """Formats to the cent, or smaller amounts to two significant digits."""
    decimals = 2 if usd >= 0.1 or usd <= 0 else 1 - math.floor(math.log10(usd))
    return f"${usd:,.{decimals}f}"


def never_enough(row: JobRow, refusal: QuotaRefusal) -> BudgetExceeded | None:
    """Returns the error of a job that no day's budget covers, since waiting would not help; None: one does."""
    if row.estimate_usd <= refusal.limit:
        return None
    return BudgetExceeded(
        f"The job would cost about {dollars(row.estimate_usd)} at {row.endpoint};"
        f" a day may cost {dollars(refusal.limit)}.",
        hint="Use a shorter input or a cheaper endpoint, or raise the budget in config.yaml.",
    )


def used_up(request: JobRequest, refusal: QuotaRefusal) -> str:
    """Says why a job waits, and until when."""
    whose = f"trigger {request.trigger}" if refusal.reason == "trigger_budget" else "all runs"
    until = datetime.fromtimestamp(refusal.until, UTC)
    return (
        f"the budget of {dollars(refusal.limit)} a day for {whose} is used up ({dollars(refusal.spent)});"
        f" it is looked at again at {until:%Y-%m-%d %H:%M} UTC"
    )
