"""Settings and clients of an S3 store; variables of the environment do not change the clients."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Literal
from urllib.parse import quote, urlsplit

import urllib3
from minio import Minio
from minio.credentials.credentials import Credentials
from minio.credentials.providers import Provider
from obstore.store import S3Store as Bucket
from urllib3.exceptions import HTTPError

from gpu_dispatch.net.tls import ca_context
from listener import clock_skew
from listener.config.credentials import AccessKeys, Keys
from manifests.errors import ConfigError
from manifests.hosts import host_and_port

if TYPE_CHECKING:
    from obstore.store import ClientConfig, RetryConfig, S3Config, S3Credential

WEEK_S = 7 * 86400


@dataclass(frozen=True, slots=True)
class StsSettings:
    """Where temporary keys come from."""

    mode: Literal["auto", "required", "off"] = "auto"
    """auto: used if the store gives any; required: no link is made without; off: none are requested."""
    endpoint: str = ""
    """Empty: the store's own."""
    role_arn: str = ""
    """The role to assume (AWS, Ceph); MinIO needs none."""
    longest_s: float = WEEK_S
    """The longest life of keys, in seconds."""

    @property
    def partition(self) -> str:
        """The second part of ARNs: "aws", "aws-cn" or "aws-us-gov"."""
        named = self.role_arn.split(":")[1:2]
        return named[0] if named and named[0] else "aws"

    @property
    def of_amazon(self) -> bool:
        host = urlsplit(self.endpoint).hostname or ""
        return host.endswith((".amazonaws.com", ".amazonaws.com.cn"))


DEFAULT_STS = StsSettings()
"""The default: MinIO's STS, if the store has it."""


CONNECT_S = 5
RETRIES = 3
AT_ONCE = 8
"""Connections kept open for later requests."""


@dataclass(frozen=True, slots=True)
class S3Settings:
    """How to reach an S3 store."""

    endpoint: str
    """As "http://host:port" or "https://host:port", without a path."""
    buckets: tuple[str, ...]
    keys: Keys
    """Called before every use, on any thread."""
    region: str = "us-east-1"
    path_style: bool = True
    public_endpoint: str | None = None
    """The endpoint for users and workers, if it differs; a proxy must pass on the Host header, which is signed."""
    ca_file: Path | None = None
    """A PEM file of authorities trusted beside the system's."""
    timeout_s: float = 60.0
    """Bounds one operation, retries included."""
    sts: StsSettings = DEFAULT_STS

    @property
    def seen_endpoint(self) -> str:
        """The endpoint for users and workers."""
        return self.public_endpoint or self.endpoint

    @property
    def trusted_hosts(self) -> tuple[str, ...]:
        """host:port of both endpoints."""
        return tuple(dict.fromkeys(trusted_host(each) for each in (self.endpoint, self.seen_endpoint)))


class CredentialSource:
    """Gives out keys and remembers the last ones."""

    def __init__(self, keys: Keys) -> None:
        self._keys = keys
        self.last: AccessKeys | None = None

    def __call__(self) -> AccessKeys:
        self.last = self._keys()
        return self.last


def bucket_client(settings: S3Settings, bucket: str, endpoint: str, ca_pem: bytes | None) -> Bucket:
    """Makes obstore's client of one bucket; sets every option that it would read from the environment."""
    address = bucket_address(endpoint, bucket, path_style=settings.path_style)
    config: S3Config = {
        "endpoint": address,
        "aws_endpoint_url_s3": address,
        "region": settings.region,
        "virtual_hosted_style_request": not settings.path_style,
        "skip_signature": False,
        "s3_express": False,
        # One request per key: some servers lack the bulk call.
        "disable_bulk_delete": True,
    }
    options: ClientConfig = {
        "allow_http": True,
        "connect_timeout": timedelta(seconds=min(CONNECT_S, settings.timeout_s)),
        "read_timeout": timedelta(seconds=settings.timeout_s / (RETRIES + 1)),
        "timeout": timedelta(seconds=settings.timeout_s),
    }
    if ca_pem is not None:
        options["root_certificate"] = ca_pem
    retry: RetryConfig = {
        "max_retries": RETRIES,
        "retry_timeout": timedelta(seconds=settings.timeout_s),
        "backoff": {"init_backoff": timedelta(milliseconds=100), "max_backoff": timedelta(seconds=2), "base": 2},
    }
    return Bucket(
        bucket,
        config=config,
        client_options=options,
        retry_config=retry,
        credential_provider=_credentials(settings.keys),
    )


def listing_client(settings: S3Settings) -> Minio:
    """Makes minio's client, for listings that obstore cannot read. It blocks: for use in a thread."""
    parts = urlsplit(settings.endpoint)
    client = Minio(
        parts.netloc,
        credentials=_KeysProvider(settings.keys),
        secure=parts.scheme == "https",
        region=settings.region,
        http_client=connections(settings),
    )
    if not settings.path_style:
        client.enable_virtual_style_endpoint()
    return client


def clock_ahead_s(http: urllib3.PoolManager, endpoint: str) -> float | None:
    """Returns the seconds by which this machine's clock is ahead of the server's; None: unknown. Blocks."""
    try:
        answer = http.request("HEAD", endpoint, retries=False, redirect=False)
    except HTTPError:
        return None
    return clock_skew.from_header(answer.headers.get("Date"), time.time())


def read_ca(settings: S3Settings) -> bytes | None:
    """Returns the bytes of `ca_file`, None without one. Raises ConfigError if it cannot be read."""
    if settings.ca_file is None:
        return None
    try:
        return settings.ca_file.read_bytes()
    except OSError as e:
        raise ConfigError(
            f"The certificate file {settings.ca_file} cannot be read: {e.strerror}.",
            hint="Correct store.ca_file in config.yaml.",
            where="store.ca_file",
        ) from e


def object_address(settings: S3Settings, bucket: str, key: str) -> str:
    """Returns the unsigned URL of an object at the public endpoint."""
    root = bucket_address(settings.seen_endpoint, bucket, path_style=settings.path_style)
    return f"{root}/{f'{bucket}/' if settings.path_style else ''}{quote(key, safe='/')}"


def bucket_address(endpoint: str, bucket: str, *, path_style: bool) -> str:
    """Returns the root URL of a bucket's requests; without `path_style` the host's name begins with the bucket."""
    parts = urlsplit(endpoint)
    host = parts.netloc if path_style else f"{bucket}.{parts.netloc}"
    return f"{parts.scheme}://{host}"


def trusted_host(endpoint: str) -> str:
    parts = urlsplit(endpoint)
    return host_and_port(parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80))


def _credentials(keys: Keys) -> Callable[[], S3Credential]:
    def provide() -> S3Credential:
        now = keys()
        return {
            "access_key_id": now.access_key,
            "secret_access_key": now.secret_key,
            "token": now.session_token or None,
            # Expired at once: requests that wait for it use it, and later ones ask again.
            "expires_at": datetime.now(UTC),
        }

    return provide


class _KeysProvider(Provider):
    """Gives minio's client the current keys before every request."""

    def __init__(self, keys: Keys) -> None:
        self._keys = keys

    def retrieve(self) -> Credentials:
        now = self._keys()
        return Credentials(now.access_key, now.secret_key, now.session_token or None)


def connections(settings: S3Settings) -> urllib3.PoolManager:
    """Makes the connection pool for minio's client and for requests that no client offers."""
    # All attempts together stay within the timeout, because a thread cannot be ended from outside.
    timeout = urllib3.Timeout(connect=min(CONNECT_S, settings.timeout_s), read=settings.timeout_s / (RETRIES + 1))
    # While it starts, MinIO sends "Retry-After: 60" but is ready within a second.
    again = [500, 502, 503, 504]
    retries = urllib3.Retry(total=RETRIES, backoff_factor=0.2, status_forcelist=again, respect_retry_after_header=False)
    trusted = ca_context(settings.ca_file, where="store.ca_file")
    return urllib3.PoolManager(maxsize=AT_ONCE, timeout=timeout, retries=retries, ssl_context=trusted)
