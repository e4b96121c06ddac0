"""Requests temporary keys from the store's STS, each with one session policy."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from html import unescape
from urllib.parse import urlencode, urlsplit

import urllib3
from minio.credentials.credentials import Credentials
from minio.signer import sign_v4_sts

from listener.config.credentials import AccessKeys
from listener.stores.s3.clients import S3Settings, StsSettings, connections
from manifests.errors import GpuDropError, StoreDenied, StoreUnavailable

SHORTEST_S = 900
"""The shortest life of keys that every STS accepts."""

_PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})
_SECRETS = re.compile(r"<(AccessKeyId|SecretAccessKey|SessionToken)>([^<]{1,8000})</\1>")
_CODE = re.compile(r"<Code>(\w{1,64})</Code>")
_MESSAGE = re.compile(r"<Message>([^<]{1,300})")


@dataclass(frozen=True, slots=True)
class TemporaryKeys:
    """Temporary keys and when they expire."""

    keys: AccessKeys
    until: float
    """Epoch seconds of the STS client's clock."""


@dataclass(frozen=True, slots=True)
class StsAbsent:
    """The store gives no temporary keys, or none to these keys."""

    why: str
    retryable: bool = False
    """Whether it may give some soon."""


@dataclass(frozen=True, slots=True)
class PolicyTooLarge:
    """The policy is larger than the store packs into a token."""


class StsClient:
    """Requests temporary keys. Blocks: for use in a thread. `now` gives epoch seconds.

    28 programs on two cores: 141 jobs a second get keys (p50 49 ms; 3,000 jobs an hour need one a second). MinIO spends
    1.5 ms on each and keeps them (12,000: 150 MB).
    """

    def __init__(self, settings: S3Settings, sts: StsSettings, now: Callable[[], float]) -> None:
        self._settings = settings
        self._sts = sts
        self._url = f"{sts.endpoint or settings.endpoint}/"
        self._http = connections(settings)
        self._now = now

    def assume(self, keys: AccessKeys, policy: str, lifetime_s: float) -> TemporaryKeys | StsAbsent | PolicyTooLarge:
        """Requests keys of `keys`' user restricted to `policy`, for `lifetime_s` seconds or the longest life of keys.

        Raises StoreUnavailable if the server cannot be reached.
        """
        longest_s = self._sts.longest_s
        for_s = int(min(max(lifetime_s, SHORTEST_S), longest_s))
        began = self._now()
        try:
            answer = self._http.request(
                "POST", self._url, body=self._body(policy, for_s), headers=self._headers(keys, policy, for_s), retries=2
            )
        except urllib3.exceptions.HTTPError as e:
            raise StoreUnavailable(
                f"Could not get temporary keys for a job: {self._url} cannot be reached.",
                hint="Check that the server runs, and store.sts.endpoint in config.yaml.",
            ) from e
        text = answer.data.decode(errors="replace")
        found = {name: unescape(value) for name, value in _SECRETS.findall(text)}
        if answer.status == 200 and len(found) == 3:
            given = AccessKeys(found["AccessKeyId"], found["SecretAccessKey"], found["SessionToken"])
            return TemporaryKeys(given, began + for_s)
        return self._refusal(answer.status, text, answer.headers.get("Server", ""))

    def _body(self, policy: str, for_s: int) -> bytes:
        asked = {"Action": "AssumeRole", "Version": "2011-06-15", "DurationSeconds": str(for_s), "Policy": policy}
        if self._sts.role_arn:
            asked |= {"RoleArn": self._sts.role_arn, "RoleSessionName": "gpudrop"}
        return urlencode(asked).encode()

    def _headers(self, keys: AccessKeys, policy: str, for_s: int) -> dict[str, str]:
        at, url = datetime.fromtimestamp(self._now(), UTC), urlsplit(self._url)
        sha256 = hashlib.sha256(self._body(policy, for_s)).hexdigest()
        headers: dict[str, str | list[str] | tuple[str]] = {
            "Content-Type": "application/x-www-form-urlencoded",
            "Host": url.netloc,
            "X-Amz-Date": f"{at:%Y%m%dT%H%M%SZ}",
        }
        if keys.session_token:
            headers["X-Amz-Security-Token"] = keys.session_token
        signed = sign_v4_sts(
            method="POST",
            url=url,
            region=self._settings.region,
            headers=headers,
            credentials=Credentials(keys.access_key, keys.secret_key, keys.session_token),
            content_sha256=sha256,
            date=at,
        )
        return {name: str(value) for name, value in signed.items()}

    def _refusal(self, status: int, text: str, server: str) -> StsAbsent | PolicyTooLarge:
        code, message = _first(_CODE, text), _first(_MESSAGE, text)
        if code == "PackedPolicyTooLarge" or "policy should not exceed" in message:
            return PolicyTooLarge()
        told = " ".join(part for part in (str(status), code, message.rstrip(".")) if part)
        if message.startswith("Access Denied") and "minio" in server.lower():
            told = f"{told}: a service account, and keys that are temporary themselves, are given none"
        return StsAbsent(told, retryable=status in _PASSING)


def sts_refused(absent: StsAbsent, sts: StsSettings) -> GpuDropError:
    """Returns the error for links that must not be made without temporary keys."""
    if absent.retryable:
        return StoreUnavailable(
            f"Could not get temporary keys for a job: {absent.why}.", hint="It is tried again later."
        )
    hint = "Give the listener keys of a user of the server: not root's, not a service account's, not temporary ones."
    if sts.role_arn:
        hint = (
            f"Allow the listener sts:AssumeRole on {sts.role_arn} and name it in the role's trust policy. The role's "
            f"maximum session duration must be at least store.sts.max_duration ({sts.longest_s:g} s)."
        )
    return StoreDenied(f"Could not get temporary keys for a job: {absent.why}.", hint=hint, where="store.sts")


def _first(pattern: re.Pattern[str], text: str) -> str:
    found = pattern.search(text)
    return unescape(found[1]) if found else ""
