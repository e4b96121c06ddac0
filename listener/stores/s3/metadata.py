"""Attributes of objects, and refusals of folder markers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from manifests.errors import UnusableKey

if TYPE_CHECKING:
    from obstore import Attributes, PutResult


def is_marker(key: str) -> bool:
    return key.endswith("/")


def refuse_marker(key: str) -> None:
    if is_marker(key):
        raise UnusableKey(f"The key {key!r} names a folder.", hint="Name an object: a key that does not end in '/'.")


RUN_METADATA = "gpudrop-run"
"""The attribute with the run's id; its header is x-amz-meta-gpudrop-run."""


def attributes_of(content_type: str, run_id: str = "") -> Attributes:
    attributes: Attributes = {"Content-Type": content_type}
    if run_id:
        attributes[RUN_METADATA] = run_id
    return attributes


def etag_of(result: PutResult) -> str:
    """Returns the ETag without quotes."""
    return (result["e_tag"] or "").strip('"')
