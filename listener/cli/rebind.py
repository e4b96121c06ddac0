"""`gpudrop rebind`: binds a state to the configured store, after the store has moved."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack

from listener.cli.status import print_line
from listener.config.config import Config
from listener.config.state import held_state
from listener.config.store_identity import identity_of
from listener.ledger.database import Database
from listener.ledger.owner import rebind


async def rebind_state(config: Config) -> int:
    """Binds the state to the configured store. Raises ConfigError while a listener uses the state."""
    with ExitStack() as stack:
        state = await asyncio.to_thread(stack.enter_context, held_state(config))
        identity = identity_of(config, state.folder)
        database = Database(state.ledger_url)
        await database.open()
        try:
            await rebind(database, identity)
        finally:
            await database.close()
    print_line(f"The state belongs to {identity} now.")
    return 0
