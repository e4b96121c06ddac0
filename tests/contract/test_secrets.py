"""Secrets of an installation, on each database: drawn once, whoever asks at once, and seen nowhere."""

from __future__ import annotations

import asyncio

from listener.ledger.database import Database
from listener.ledger.secrets import SECRET_BYTES, SecretLedger


async def test_all_listeners_have_the_same_secret_for_ever(ledger_url: str) -> None:
    databases = [Database(ledger_url) for _ in range(4)]
    for database in databases:
        await database.open()
    ledgers = [SecretLedger(database, lambda at=float(i): at) for i, database in enumerate(databases)]
    try:
        drawn = await asyncio.gather(*(ledger.secret("attempts") for ledger in ledgers for _ in range(5)))
        other = await ledgers[0].secret("other")
    finally:
        for database in databases:
            await database.close()
    assert len(set(drawn)) == 1 and len(drawn[0].value) == SECRET_BYTES
    assert other.value != drawn[0].value
    assert drawn[0].value.hex() not in repr(drawn[0]) and str(drawn[0].value) not in repr(drawn[0])
