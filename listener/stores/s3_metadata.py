"""What is written beside an object's bytes, and what the store says of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from obstore import Attributes, PutResult

RUN_METADATA = "gpudrop-run"
"""Read back as the header x-amz-meta-gpudrop-run."""


def attributes_of(content_type: str, run_id: str = "") -> Attributes:
    attributes: Attributes = {"Content-Type": content_type}
    if run_id:
        attributes[RUN_METADATA] = run_id
    return attributes


def etag_of(result: PutResult) -> str:
    """Without quotes."""
    return (result["e_tag"] or "").strip('"')
