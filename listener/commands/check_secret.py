"""What `gpudrop check` says of the installation's secret: whether jobs would be known again if the ledger were lost."""

from __future__ import annotations

from listener.commands.check_lines import CheckLine, problem_line
from listener.configuration.environment import Environment
from listener.installation_secret import VARIABLE
from listener.secret_copies import StoreCopy
from listener.store import Store
from manifests.errors import GpuDropError

_SUBJECT = "secret"
_LOST = "if the ledger is lost, jobs that are under way are done and paid for again"
_SET = f"Set {VARIABLE}, or {VARIABLE}_FILE, to what `openssl rand -hex 32` prints."


async def secret_line(store: Store, environment: Environment) -> CheckLine:
    """Looks only."""
    if environment.secret:
        return CheckLine(_SUBJECT, True, f"{VARIABLE} is set: jobs are known again if the ledger is lost")
    try:
        standing = await StoreCopy(store, environment.keys.current).look()
    except GpuDropError as e:
        return problem_line(_SUBJECT, e)
    match standing:
        case "ours":
            return CheckLine(_SUBJECT, True, "the bucket holds a copy, sealed with the store's keys")
        case "missing":
            return CheckLine(_SUBJECT, True, "`gpudrop run` leaves a copy in the bucket, sealed with the store's keys")
        case "foreign":
            detail = f"the bucket's copy cannot be opened with the store's keys: {_LOST}"
            return CheckLine(_SUBJECT, None, detail, f"`gpudrop run` writes it anew from the ledger. Or: {_SET}")
        case "temporary keys":
            return CheckLine(
                _SUBJECT, None, f"the store's keys are temporary, so there is no copy in it: {_LOST}", _SET
            )
