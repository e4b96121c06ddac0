"""The container's health: the ledger answers, and every source of events of this listener is well."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from listener.config.loader import load_config
from listener.config.state import state_of
from listener.ledger.database import Database
from listener.ledger.sources import SourceLedger
from manifests.errors import GpuDropError

DEADLINE_S = 15.0


async def trouble() -> str:
    """What is wrong; empty when all is well."""
    state = state_of(load_config(Path(os.environ.get("GPUDROP_CONFIG", "config.yaml"))))
    if state.folder and not (state.folder / "ledger.sqlite").is_file():
        return f"no listener has used {state.folder} yet"
    database = Database(state.ledger_url)
    await database.open()
    try:
        sources = await SourceLedger(database).all()
    finally:
        await database.close()
    if not sources:
        return "no source has said anything yet"
    return "; ".join(f"{row.source}: {row.detail}" for row in sources if not row.ok)


def main() -> int:
    try:
        found = asyncio.run(asyncio.wait_for(trouble(), DEADLINE_S))
    except (GpuDropError, TimeoutError) as e:
        found = str(e) or f"the ledger did not answer within {DEADLINE_S:.0f} s"
    sys.stdout.write(f"{found or 'well'}\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
