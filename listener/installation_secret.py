"""The installation's secret, from which the keys of attempts are derived."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence

import structlog

from gpu_dispatch.net.retries import SECRET_COPY
from listener.config.environment import Environment
from listener.ledger.secrets import SecretLedger, SecretSpec, new_secret
from listener.secret_copies import Copy, derived
from manifests.errors import ConfigError, GpuDropError, StoreUnavailable

log: structlog.stdlib.BoundLogger = structlog.get_logger("listener.secret")

NAME = "attempts"
"""The secret's name in the ledger."""
VARIABLE = "GPUDROP_SECRET"
SHORTEST = 32
"""Fewest characters of an operator's secret."""

_EVERY_S = 3600.0


def operators_secret(environment: Environment) -> bytes | None:
    """Returns the key derived from the operator's secret; None without one. Raises ConfigError for a short one."""
    given = environment.secret
    if given and len(given) < SHORTEST:
        raise ConfigError(
            f"{VARIABLE} has {len(given)} characters; it needs at least {SHORTEST}.",
            hint="Make one with `openssl rand -hex 32`, the same for all listeners on one state.",
            where=VARIABLE,
        )
    return derived(given, "gpudrop secret of the installation") if given else None


class InstallationSecret:
    """The operator's secret, else the ledger's, else a copy's, else a new one.

    `copies` are read in their order, and only while the ledger has no secret: changes to them have no effect otherwise.
    `now_s` is when this listener started, in epoch seconds. A secret that is new in the ledger counts from then on,
    even if it is first read after the first job is recorded as intended.
    """

    def __init__(self, ledger: SecretLedger, operators: bytes | None, copies: Sequence[Copy], now_s: float) -> None:
        self._ledger = ledger
        self._now_s = now_s
        self._operators = operators
        self._copies = copies
        self._known: tuple[SecretSpec, ...] = ()
        self._lock = asyncio.Lock()

    async def all(self) -> tuple[SecretSpec, ...]:
        """Returns the secret in force, then those that it replaced lately. Raises StoreUnavailable."""
        async with self._lock:
            if not self._known:
                self._known = await self._found()
            return self._known

    async def keep(self) -> None:
        """Writes the copies now and every hour, until cancelled. A problem that repeats is logged once."""
        rng = random.Random()  # noqa: S311 - spreads load, keeps no secret
        failures, told = 0, set[str]()
        while True:
            wait_s, problems = _EVERY_S, set[str]()
            for copy in self._copies:
                try:
                    await copy.ensure((await self.all())[0])
                except GpuDropError as e:
                    failures += 1
                    wait_s = SECRET_COPY.wait_s(failures, rng) if e.retryable else wait_s
                    problems.add(str(e))
                    if str(e) not in told:
                        log.warning("secret_copy_not_kept", code=e.info.code, error=str(e), hint=e.info.hint)
            if not problems:
                failures = 0
            told = problems
            await asyncio.sleep(wait_s)

    async def _found(self) -> tuple[SecretSpec, ...]:
        known = await self._ledger.all(NAME)
        if self._operators is not None:
            if known and known[0].value != self._operators:
                log.warning("secret_changed", because=f"{VARIABLE} is another one", hint="Give it to all listeners.")
            return await self._ledger.change(NAME, SecretSpec(self._operators, self._now_s))
        return known or await self._ledger.get_or_create(NAME, await self._recovered() or new_secret(self._now_s))

    async def _recovered(self) -> SecretSpec | None:
        for copy in self._copies:
            try:
                found = await copy.read()
            except StoreUnavailable:
                raise
            except GpuDropError as e:
                log.warning("secret_copy_not_read", code=e.info.code, error=str(e), hint=e.info.hint)
                continue
            if found:
                log.warning("secret_recovered", consequence="jobs that were sent before the ledger was lost are known")
                return found
        return None
