"""References to media: what a manifest may name, what it reaches in the store, and where its outputs may lie."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import unquote

from manifests.errors import AddressNotAllowed, BucketNotAllowed, InvalidPath, OutOfReach
from manifests.hosts import WebAddress, is_private_host, parse_web_address
from manifests.keys import OWN_FOLDERS, check_key, join_key
from manifests.names import drop_folder
from manifests.text import without_secrets_in

_SCHEME = re.compile(r"([a-zA-Z][a-zA-Z0-9+.-]*)://")
_SIGNATURE = re.compile(r"\?(?=(?:X-Amz-|AWSAccessKeyId=|versionId=|response-content-))")


@dataclass(frozen=True, slots=True)
class ObjectRef:
    """An object in the store."""

    bucket: str
    key: str
    """Raw, as users see it; never URL-encoded."""

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.key}"


@dataclass(frozen=True, slots=True)
class UrlRef:
    """A file outside the store."""

    url: str
    """http or https in plain ASCII, or `data:` for bytes inside the manifest."""

    def __str__(self) -> str:
        return without_secrets_in(self.url)


MediaRef = ObjectRef | UrlRef


@dataclass(frozen=True, slots=True)
class ReferencePolicy:
    """What references may reach beyond the manifest's own bucket."""

    allowed_buckets: frozenset[str] = frozenset()
    store_urls: tuple[str, ...] = ()
    """Roots of the published store ("http://minio.example:9000"); a URL below one is an object of the store."""
    private_hosts: frozenset[str] = field(default_factory=frozenset[str])
    """Host names or addresses that may be private."""


def resolve_reference(text: str, *, bucket: str, folder: str, policy: ReferencePolicy, where: str = "") -> MediaRef:
    """Resolves `text` in a manifest that lies in `folder` ("" or ending in "/") of `bucket`.

    "a/b.mp3" is relative to the folder and may use "..", "/a/b.mp3" starts at the bucket's root; s3://bucket/key and
    http(s)://… are absolute. Raises UnusableKey, InvalidPath, BucketNotAllowed or AddressNotAllowed, naming `where`.
    """
    scheme = _SCHEME.match(text)
    kind = scheme[1].lower() if scheme else ""
    if scheme and kind == "s3":
        other, _, key = text[scheme.end() :].partition("/")
        return _object(other, key, bucket, policy, where)
    if kind in ("http", "https"):
        return _url(text.rstrip(), bucket, policy, where)
    if text[:5].lower() == "data:":
        return _data(text, where)
    if scheme:
        raise InvalidPath(
            f"{_quoted(text)} is not a kind of reference that can be read.",
            hint="Name a file relative to the manifest, s3://bucket/key or https://…",
            where=where,
        )
    return _object(bucket, join_key(folder, text, where=where), bucket, policy, where)


def _object(other: str, key: str, bucket: str, policy: ReferencePolicy, where: str) -> ObjectRef:
    if other != bucket and other not in policy.allowed_buckets:
        raise BucketNotAllowed(
            f"The bucket {other[:63]!r} may not be read from {bucket!r}.",
            hint=f"Put the file into {bucket!r}, or add the bucket to store.allowed_buckets in config.yaml.",
            where=where,
        )
    if not key or key.endswith("/"):
        raise InvalidPath(f"{_quoted(key)} is a folder, not a file.", hint="Name the file itself.", where=where)
    if key.partition("/")[0] in OWN_FOLDERS:
        raise InvalidPath(f"{without_secrets_in(key)!r} is gpudrop's own.", hint="Name a file of yours.", where=where)
    return ObjectRef(other, check_key(key, where=where))


def _data(text: str, where: str) -> UrlRef:
    if "," not in text:
        raise InvalidPath(
            f"{_quoted(text)} holds no data.",
            hint="Write data:;base64,… for bytes, or ./data:… for a file of that name.",
            where=where,
        )
    return UrlRef("data:" + text[5:])


def _url(text: str, bucket: str, policy: ReferencePolicy, where: str) -> MediaRef:
    address = parse_web_address(text)
    if address is None:
        raise InvalidPath(f"{_quoted(text)} is no usable address.", hint="Check its spelling.", where=where)
    own = _in_store(address, bucket, policy)
    if own:
        return _object(*own, bucket, policy, where)
    if is_private_host(address.host, policy.private_hosts, address.real_port):
        raise AddressNotAllowed(
            f"The host {address.host!r} is private and may not be contacted.",
            hint="Put the file into the bucket, or allow the host in config.yaml:"
            f' store.private_hosts: ["{address.host_and_port}"].',
            where=where,
        )
    return UrlRef(address.url)


def _in_store(address: WebAddress, bucket: str, policy: ReferencePolicy) -> tuple[str, str] | None:
    """Returns bucket and key of an `address` below one of the store's roots: root/bucket/key, or bucket.root/key.

    http and https are equal here, because the store is not contacted under this address.
    """
    for root in filter(None, map(parse_web_address, policy.store_urls)):
        base = root.rest.rstrip("/") + "/"
        if address.port != root.port or not address.rest.startswith(base):
            continue
        rest = address.rest[len(base) :]
        if address.host == root.host:
            other, _, key = rest.partition("/")
            return unquote(other.partition("?")[0]), _raw_key(key)
        other = address.host.removesuffix("." + root.host)
        if other != address.host and (other == bucket or other in policy.allowed_buckets):
            return other, _raw_key(rest)
    return None


def _raw_key(written: str) -> str:
    """Returns the key at the end of a store's address.

    Older clients pasted raw keys into addresses. A space shows that, because no encoded address has one. In a raw key
    "%", "#" and "?" stand for themselves, and only a signature or a version is cut off.
    """
    if " " in written:
        return _SIGNATURE.split(written, maxsplit=1)[0]
    return unquote(re.split(r"[?#]", written, maxsplit=1)[0], errors="surrogateescape")


def _quoted(text: str) -> str:
    return repr(without_secrets_in(text))


ReachScope = Literal["bucket", "folder"]


@dataclass(frozen=True, slots=True)
class Reach:
    """What a drop reaches in the store. A folder is "" (the bucket's root) or ends in "/", with all that lies below."""

    scope: ReachScope = "bucket"
    """bucket: all of the drop's bucket. folder: the drop's own folder, `folders` and `also`."""
    folders: tuple[str, ...] = ()
    """For the drops below them. "*" is any one name: with "clients/*/" a drop in clients/a/in/ reaches clients/a/."""
    also: tuple[str, ...] = ()
    """For every drop; "s3://bucket/folder/" is a folder of another bucket."""

    @property
    def is_bounded(self) -> bool:
        return self.scope == "folder"

    def covers(self, drop: ObjectRef, bucket: str, key: str) -> bool:
        """Returns whether the drop reaches `key` of `bucket`; `ReferencePolicy` says which other buckets are open."""
        if not self.is_bounded:
            return True
        if bucket != drop.bucket:
            return any(f"s3://{bucket}/{key}".startswith(folder) for folder in self.also if "://" in folder)
        return any(key.startswith(folder) for folder in self._within(drop))

    def check_reference(self, drop: ObjectRef, media: MediaRef, where: str) -> None:
        """Raises OutOfReach, naming the field `where`, for an object that the drop does not reach."""
        if isinstance(media, ObjectRef) and not self.covers(drop, media.bucket, media.key):
            name = media.key if media.bucket == drop.bucket else str(media)
            raise self._refused(drop, f"{name!r} may not be named from {_position(drop)}", name, where)

    def check_output(self, drop: ObjectRef, key: str, where: str) -> None:
        """Raises OutOfReach when the drop does not reach `key`, that of an output or of the outputs' folder."""
        if not self.covers(drop, drop.bucket, key):
            raise self._refused(drop, f"{key!r} may not be written from {_position(drop)}", key, where)

    def _within(self, drop: ObjectRef) -> list[str]:
        own = drop_folder(drop.key)
        wider = [found for folder in self.folders if (found := _matched(folder, own)) is not None]
        return [own, *wider, *(folder for folder in self.also if "://" not in folder)]

    def _refused(self, drop: ObjectRef, problem: str, name: str, where: str) -> OutOfReach:
        inside = [repr(folder) if folder else "this bucket" for folder in self._within(drop)]
        folder = name[: name.rfind("/") + 1] or "/"
        return OutOfReach(
            f"{problem}: a manifest there reaches only {', '.join(dict.fromkeys(inside))}.",
            hint="Stay inside, or have its folder added in config.yaml:"
            f' manifests.also: ["{folder}"], or manifests.folders for a folder of several.',
            where=where,
        )


WHOLE_BUCKET = Reach()


def _matched(folder: str, own: str) -> str | None:
    """Returns the folder that the pattern `folder` means for a drop in `own`; None when `own` is not below it."""
    wanted, there = folder.split("/")[:-1], own.split("/")[:-1]
    if len(there) < len(wanted) or any(w not in ("*", t) for w, t in zip(wanted, there, strict=False)):
        return None
    return "".join(f"{segment}/" for segment in there[: len(wanted)])


def _position(drop: ObjectRef) -> str:
    return f"the folder {drop_folder(drop.key)!r}"
