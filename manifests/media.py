"""References to media: what a manifest may name, and what that means where the manifest lies."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

from manifests.errors import AddressNotAllowed, BucketNotAllowed, InvalidPath, UnusableKey

MAX_KEY_BYTES = 1024
"""Longest object key S3 allows, in bytes of UTF-8."""


_SCHEME = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*://")


@dataclass(frozen=True, slots=True)
class ObjectRef:
    """An object in the store. `key` is raw, as users see it: never URL-encoded."""

    bucket: str
    key: str

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.key}"


@dataclass(frozen=True, slots=True)
class UrlRef:
    """A file elsewhere: http or https, or `data:` for bytes that lie in the manifest itself."""

    url: str

    def __str__(self) -> str:
        return self.url if len(self.url) <= 200 else self.url[:200] + "…"


MediaRef = ObjectRef | UrlRef


@dataclass(frozen=True, slots=True)
class ReferencePolicy:
    """What references may reach beyond the manifest's own bucket.

    `store_urls` are the roots under which the store itself is published ("http://minio.example:9000"): a URL below
    one of them is an object of the store. `private_hosts` are host names or addresses that may be private.
    """

    allowed_buckets: frozenset[str] = frozenset()
    store_urls: tuple[str, ...] = ()
    private_hosts: frozenset[str] = field(default_factory=frozenset[str])


def resolve(text: str, *, bucket: str, folder: str, policy: ReferencePolicy, where: str = "") -> MediaRef:
    """What `text` means in a manifest that lies in `folder` ("" or ending in "/") of `bucket`.

    "a/b.mp3" is relative to the folder, "/a/b.mp3" to the bucket's root; s3://bucket/key and http(s)://… are absolute.
    Raises UnusableKey, InvalidPath, BucketNotAllowed or AddressNotAllowed, each naming `where`.
    """
    if text.startswith("s3://"):
        other, _, key = text[5:].partition("/")
        return _object(other, key, bucket, policy, where)
    if text.startswith(("http://", "https://")):
        return _url(text, bucket, policy, where)
    if text.startswith("data:"):
        return UrlRef(text)
    if _SCHEME.match(text):
        raise InvalidPath(
            f"{text!r} is not a kind of reference that can be read.",
            hint="Name a file relative to the manifest, s3://bucket/key or https://…",
            where=where,
        )
    joined = join_key(folder, text, where=where)
    return ObjectRef(bucket, check_key(joined, where=where))


def join_key(folder: str, path: str, *, where: str = "") -> str:
    """`path` seen from `folder`, with "." and ".." worked out; raises InvalidPath when it leaves the bucket."""
    parts = [] if path.startswith("/") else folder.split("/")[:-1]
    segments = path.removeprefix("/").split("/")
    for i, segment in enumerate(segments):
        if segment == "..":
            if not parts:
                raise InvalidPath(f"{path!r} leads out of the bucket.", hint="Stay inside the bucket.", where=where)
            parts.pop()
        elif segment == "." or (segment == "" and i == len(segments) - 1):
            continue
        else:
            parts.append(segment)
    is_folder = segments[-1] in ("", ".", "..")
    return "/".join(parts) + ("/" if is_folder and parts else "")


def check_key(key: str, *, where: str = "") -> str:
    """`key` itself when every store can hold it; else UnusableKey."""
    problem = key_problem(key)
    if problem:
        raise UnusableKey(
            f"The key {key!r} {problem}.",
            hint="Rename the object: no empty, '.' or '..' segments, no control characters, at most 1024 bytes.",
            where=where,
        )
    return key


def key_problem(key: str) -> str:
    """Why `key` cannot be worked with, as the end of a sentence; "" when it can."""
    if not key:
        return "is empty"
    if len(key.encode("utf-8", "surrogatepass")) > MAX_KEY_BYTES:
        return "is longer than 1024 bytes"
    if any(ord(c) < 32 or ord(c) == 127 for c in key):
        return "holds a control character"
    segments = key.removesuffix("/").split("/")
    if any(s == "" for s in segments):
        return "has an empty segment ('//', or a '/' at its start)"
    if any(s in (".", "..") for s in segments):
        return "has a '.' or '..' segment"
    return ""


def output_folder(path: str | None, *, folder: str, where: str = "path") -> str:
    """The folder outputs go to: `path` seen from the manifest's `folder`, or that folder itself.

    A manifest may not climb: ".." is refused, "/…" counts from the bucket's root. Returns "" or a key ending in "/".
    """
    if path is None or path in ("", "."):
        return folder
    if ".." in path.replace("\\", "/").split("/"):
        raise InvalidPath(
            f"The output path {path!r} holds '..'.",
            hint="Name a folder below the manifest, or start with '/' to count from the bucket's root.",
            where=where,
        )
    joined = join_key(folder, path.rstrip("/") + "/", where=where) if path.rstrip("/") else ""
    if joined:
        check_key(joined, where=where)
    return joined


def is_private_host(host: str, allowed: Iterable[str] = ()) -> bool:
    """Whether `host` is a literal address (or "localhost") outside the public internet and not `allowed`.

    A name is not looked up here: the worker checks the address it really connects to.
    """
    name = host.strip("[]").lower().rstrip(".")
    if name in allowed:
        return False
    if name == "localhost" or name.endswith((".localhost", ".local", ".internal")):
        return True
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return name.replace(".", "").isdigit() or name.startswith("0x")
    return not address.is_global


def _object(other: str, key: str, bucket: str, policy: ReferencePolicy, where: str) -> ObjectRef:
    if other != bucket and other not in policy.allowed_buckets:
        raise BucketNotAllowed(
            f"The bucket {other!r} may not be read from {bucket!r}.",
            hint=f"Put the file into {bucket!r}, or add {other!r} to store.allowed_buckets in config.yaml.",
            where=where,
        )
    return ObjectRef(other, check_key(key, where=where))


def _url(text: str, bucket: str, policy: ReferencePolicy, where: str) -> MediaRef:
    for root in policy.store_urls:
        if text.startswith(root.rstrip("/") + "/"):
            rest = text[len(root.rstrip("/")) + 1 :].partition("?")[0]
            other, _, key = rest.partition("/")
            return _object(other, unquote(key), bucket, policy, where)
    try:
        host = urlsplit(text).hostname
    except ValueError:
        host = None
    if not host:
        raise InvalidPath(f"{text!r} is no usable URL.", hint="Check its spelling.", where=where)
    if is_private_host(host, policy.private_hosts):
        raise AddressNotAllowed(
            f"The address {host!r} is private and may not be fetched.",
            hint="Put the file into the bucket, or add the host to store.private_hosts in config.yaml.",
            where=where,
        )
    return UrlRef(text)
