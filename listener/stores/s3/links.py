"""Makes the links of jobs, signed with temporary keys for the job's objects alone if the store gives such keys."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Literal, ParamSpec, TypeVar

import structlog

from listener.config.credentials import AccessKeys
from listener.stores.base import JobObjects, UploadInParts
from listener.stores.s3.clients import S3Settings
from listener.stores.s3.metadata import refuse_marker
from listener.stores.s3.policies import PolicyKind, Right, groups_of, rights_of, session_policy_of
from listener.stores.s3.presign import PartSigner, Signer, signing_time
from listener.stores.s3.sts import PolicyTooLarge, StsAbsent, StsClient, TemporaryKeys, sts_refused
from manifests.errors import ObjectDenied, StoreDenied
from manifests.keys import check_key

P = ParamSpec("P")
T = TypeVar("T")
log: structlog.stdlib.BoundLogger = structlog.get_logger("listener.store")

SPARE_S = 600.0
"""Seconds by which keys outlive the links made with them, so that a retry of the same task can use them, too."""

THREADS = 4
"""Concurrent requests for temporary keys."""

KEPT = 4096
"""Temporary keys kept for reuse."""
REFUSED_RETRY_S = 600.0
"""Seconds until a store that refused temporary keys is asked again."""
PASSING_RETRY_S = 60.0
"""The same after a passing problem."""


@dataclass(frozen=True, slots=True)
class S3JobLinks:
    """The links of one job."""

    signers: Mapping[Right, Signer]
    """By the right that each signs."""
    lifetime_s: float
    narrowed: bool
    """Whether the keys give access to these rights only."""
    parts: PartSigner

    async def sign(self, method: Literal["GET", "PUT"], bucket: str, key: str, *, content_type: str = "") -> str:
        refuse_marker(key)
        # Signing thousands in a row would block the event loop.
        await asyncio.sleep(0)
        signed_type = content_type if method == "PUT" else ""
        return self._signer(method, bucket, key).url(
            method, bucket, check_key(key), self.lifetime_s, content_type=signed_type
        )

    async def sign_parts(
        self, bucket: str, key: str, *, size_hint: int, part_bytes: int, content_type: str = ""
    ) -> UploadInParts:
        refuse_marker(key)
        signer = self._signer("PUT", bucket, key)

        def sign(method: str, query: Mapping[str, str]) -> str:
            return signer.url(method, bucket, key, self.lifetime_s, query=query)

        return await self.parts.begin(bucket, key, content_type, size_hint, part_bytes, sign)

    def _signer(self, method: Literal["GET", "PUT"], bucket: str, key: str) -> Signer:
        found = self.signers.get((method, bucket, key))
        if found is None:
            raise StoreDenied(
                f"The job has no right to {method} {key!r}.", hint="This is a defect of gpudrop.", where=key
            )
        return found


@dataclass(slots=True)
class _StsState:
    """What is known of the store's STS."""

    works: bool = False
    """It has given keys once; no link is made without them then."""
    absent: StsAbsent | None = None
    ask_again: float = 0.0
    """When an absent STS is asked again, on the monotonic clock."""
    given: OrderedDict[tuple[str, str], TemporaryKeys] = field(
        default_factory=OrderedDict[tuple[str, str], TemporaryKeys]
    )
    lock: threading.Lock = field(default_factory=threading.Lock)


class LinkMaker:
    """Makes the links of jobs. `now` gives epoch seconds.

    Temporary keys are cached by policy, so links for the same attempt cost no further request. A store that has given
    temporary keys once is never taken for one without.
    """

    def __init__(self, settings: S3Settings, parts: PartSigner, now: Callable[[], float] = signing_time) -> None:
        self._settings = settings
        self._sts = sts = settings.sts
        self._parts = parts
        self._client = StsClient(settings, sts, now)
        amazon = sts.of_amazon
        self._kind = PolicyKind(sts.partition, tells_missing=bool(sts.role_arn), decrypts=amazon, ascii_only=amazon)
        self._now = now
        self._known = _StsState()
        self._threads = ThreadPoolExecutor(THREADS, "links")

    @property
    def longest_s(self) -> float:
        """The longest life of a link, in seconds."""
        return self._sts.longest_s - SPARE_S

    @property
    def absence(self) -> str:
        """Why links are signed with the listener's own keys; "" if they are not, or before the first request."""
        if self._sts.mode == "off":
            return "store.sts.mode is off"
        return self._known.absent.why if self._known.absent else ""

    async def links(self, objects: JobObjects, lifetime_s: float, *, inside: bool = False) -> S3JobLinks:
        """Makes the links of one job. `inside`: for the listener itself, at the store's own endpoint."""
        rights, lifetime_s = rights_of(objects), min(lifetime_s, self.longest_s)
        keys, settings = await self._in_thread(self._settings.keys), self._settings
        if inside:
            settings = replace(settings, public_endpoint=None)
        temporary: dict[Right, TemporaryKeys] = {}
        for group in await self._in_thread(groups_of, rights, self._kind):
            # One at a time, so that a job of thousands of objects does not hold up others.
            given = await self._in_thread(self._keys_for_group, keys, group, lifetime_s)
            if given is None:
                own = Signer(settings, keys, now=self._now)
                return S3JobLinks(dict.fromkeys(rights, own), lifetime_s, False, self._parts)
            temporary |= given
        signers = {right: Signer(settings, each.keys, each.until, self._now) for right, each in temporary.items()}
        return S3JobLinks(signers, lifetime_s, True, self._parts)

    async def _in_thread(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Runs `work` on a thread of its own pool, because the default pool is small."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, partial(work, *args, **kwargs))

    def _keys_for_group(
        self, keys: AccessKeys, group: tuple[Right, ...], lifetime_s: float
    ) -> dict[Right, TemporaryKeys] | None:
        """Returns temporary keys for each right; None if the store gives none and none are required."""
        asked = self._request_keys(keys, session_policy_of(group, self._kind), lifetime_s)
        if isinstance(asked, TemporaryKeys):
            return dict.fromkeys(group, asked)
        if isinstance(asked, StsAbsent):
            if self._known.works or self._sts.mode == "required":
                raise sts_refused(asked, self._sts)
            return None
        if len(group) == 1:
            raise ObjectDenied(
                f"The store packs no session policy as long as the key {group[0][2]!r} needs.",
                hint="Use a shorter key, or store.sts.mode: off.",
                where=group[0][2],
            )
        first = self._keys_for_group(keys, group[: len(group) // 2], lifetime_s)
        second = self._keys_for_group(keys, group[len(group) // 2 :], lifetime_s)
        return None if first is None or second is None else first | second

    def _request_keys(
        self, keys: AccessKeys, policy: str, lifetime_s: float
    ) -> TemporaryKeys | StsAbsent | PolicyTooLarge:
        known, now_s = self._known, self._now()
        if self._sts.mode == "off":
            return StsAbsent("store.sts.mode is off")
        with known.lock:
            kept = known.given.get((keys.access_key, policy))
            if kept and kept.until - now_s >= lifetime_s:
                return kept
            if known.absent and time.monotonic() < known.ask_again:
                return known.absent
        answer = self._client.assume(keys, policy, lifetime_s + SPARE_S)
        with known.lock:
            if isinstance(answer, TemporaryKeys):
                known.works, known.absent = True, None
                self._keep((keys.access_key, policy), answer, now_s)
            elif isinstance(answer, StsAbsent) and not known.works and self._sts.mode == "auto":
                self._note(answer)
        return answer

    def _keep(self, name: tuple[str, str], given: TemporaryKeys, now_s: float) -> None:
        known = self._known
        known.given[name] = given
        known.given.move_to_end(name)
        while known.given and (len(known.given) > KEPT or next(iter(known.given.values())).until < now_s):
            known.given.popitem(last=False)

    def _note(self, absent: StsAbsent) -> None:
        if self._known.absent is None or self._known.absent.why != absent.why:
            log.info(
                "no_temporary_keys", reason=absent.why, consequence="links of jobs are signed with the listener's keys"
            )
        self._known.absent = absent
        self._known.ask_again = time.monotonic() + (PASSING_RETRY_S if absent.retryable else REFUSED_RETRY_S)
