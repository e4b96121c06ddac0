"""`gpudrop costs`: what jobs have cost, and what is left of today's budgets."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from listener.cli.status import ledger_database
from listener.config.config import Config
from listener.config.triggers import triggers_of
from listener.ledger.costs import By, CostLedger, CostRow, TodaysCosts
from listener.ledger.quotas import Spending
from manifests.text import printable_json

_SHOWN = 100
"""Most lines of a table: the latest days, the dearest of all else. JSON has every line."""

_NOTE = "Execution time x price: the least it was. A worker is billed from its start to its stop, idle time included."


@dataclass(frozen=True, slots=True)
class BudgetLine:
    """Today's spending under one budget, in US dollars."""

    name: str
    spent: Spending
    cap: float | None
    """None: no limit."""


async def show_costs(config: Config, by: By, days: int, *, as_json: bool, console: Console, now: float) -> None:
    """Prints the costs until `now`, in epoch seconds. JSON goes to the console's file without its formatting."""
    async with ledger_database(config) as database:
        ledger = CostLedger(database)
        costs, today = await ledger.costs(by, days=days, now=now), await ledger.today(now)
    budgets = _budgets(config, today)
    if as_json:
        document = json.dumps(_document(by, days, costs, today, budgets), ensure_ascii=False, indent=2)
        print(printable_json(document), file=console.file)
        return
    if costs:
        console.print(_costs_table(by, costs), "")
    else:
        console.print(f"No job has ended in the last {days} days.", "")
    console.print(_budgets_table(budgets))
    if today.open_jobs:
        console.print(f"{today.open_jobs} jobs are open; their estimates are reserved.")
    console.print(_NOTE, style="dim")


def _budgets(config: Config, today: TodaysCosts) -> list[BudgetLine]:
    """Returns the budget of all runs, then of every trigger with a budget or with money spent today."""
    caps: Mapping[str, float | None] = {t.name: t.budget_per_day for t in triggers_of(config)}
    names = [name for name in caps if caps[name] is not None or name in today.triggers]
    names += sorted(today.triggers.keys() - caps.keys())
    each = [BudgetLine(name, today.triggers.get(name, Spending()), caps.get(name)) for name in names]
    return [BudgetLine("all runs", today.all, config.budgets.per_day), *each]


def _costs_table(by: By, costs: Sequence[CostRow]) -> Table:
    table = Table(box=None, pad_edge=False, show_footer=True)
    total = _total(costs)
    hidden = len(costs) - _SHOWN
    table.add_column(by, "total" if hidden <= 0 else f"total, with {hidden} more", overflow="fold")
    if by == "run":
        table.add_column("key", overflow="fold")
    for title, footer in (("jobs", str(total.jobs)), ("seconds", _seconds(total)), ("usd", _usd(total.usd))):
        table.add_column(title, footer, justify="right", no_wrap=True)
    for cost in costs[-_SHOWN:] if by == "day" else costs[:_SHOWN]:
        key = (Text(cost.key),) if by == "run" else ()
        table.add_row(Text(cost.name), *key, str(cost.jobs), _seconds(cost), _usd(cost.usd))
    return table


def _budgets_table(budgets: Sequence[BudgetLine]) -> Table:
    table = Table(box=None, pad_edge=False)
    for title in ("today", "spent", "reserved", "of"):
        table.add_column(title, justify="left" if title == "today" else "right", overflow="fold")
    for budget in budgets:
        over = budget.cap is not None and budget.spent.usd >= budget.cap > 0
        cap = "no limit" if budget.cap is None else _usd(budget.cap)
        spent = Text(_usd(budget.spent.paid), "red" if over else "")
        table.add_row(Text(budget.name), spent, _usd(budget.spent.reserved), cap)
    return table


def _document(by: By, days: int, costs: Sequence[CostRow], today: TodaysCosts, budgets: Sequence[BudgetLine]) -> Any:
    all_runs, *triggers = budgets
    return {
        "by": by,
        "days": days,
        "costs": [_without_empty_key(cost) for cost in costs],
        "total": _without_empty_key(_total(costs)),
        "open_jobs": today.open_jobs,
        "today": {"all": _budget(all_runs), "triggers": {each.name: _budget(each) for each in triggers}},
        "note": _NOTE,
    }


def _budget(budget: BudgetLine) -> Any:
    return {"spent_usd": budget.spent.paid, "reserved_usd": budget.spent.reserved, "cap_usd": budget.cap}


def _without_empty_key(cost: CostRow) -> Any:
    return {name: value for name, value in asdict(cost).items() if name != "key" or value}


def _total(costs: Sequence[CostRow]) -> CostRow:
    seconds, usd = sum((c.seconds for c in costs), 0.0), sum((c.usd for c in costs), 0.0)
    return CostRow("total", sum(c.jobs for c in costs), seconds, usd)


def _seconds(cost: CostRow) -> str:
    return f"{cost.seconds:,.1f}"


def _usd(usd: float) -> str:
    return f"${usd:,.4f}"
