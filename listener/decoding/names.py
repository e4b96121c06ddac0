"""Names of events, as stores spell them, and what they mean here."""

from __future__ import annotations

from listener.events import ObjectCreated, ObjectRemoved

Kind = type[ObjectCreated] | type[ObjectRemoved]

CREATED = ("Put", "Post", "CompleteMultipartUpload", "Copy")
"""MinIO tells tagging, retention and legal hold as ObjectCreated too, by other names: the object is unchanged then."""

REMOVED = ("Delete", "DeleteMarkerCreated")

EVENT_NAMES = (*(f"s3:ObjectCreated:{n}" for n in CREATED), *(f"s3:ObjectRemoved:{n}" for n in REMOVED))
"""What to ask a store for: every store that has notifications knows these."""

_ALSO_CREATED = ("ObjectSynced:Create",)
"""Ceph RGW: another site's object has arrived here."""

_ALSO_REMOVED = (
    "ObjectRemoved:DeleteAllVersions",
    "ObjectRemoved:DeleteObjects",
    "LifecycleExpiration:Delete",
    "LifecycleExpiration:DeleteMarkerCreated",
    "ObjectLifecycle:Expiration:Current",
    "ObjectSynced:Delete",
    "ObjectSynced:DeletionMarkerCreated",
)
"""MinIO; VersityGW; AWS; Ceph RGW. An expired delete marker or older version takes nothing away that could be read."""


def _kinds() -> dict[str, Kind]:
    kinds: dict[str, Kind] = {f"ObjectCreated:{name}": ObjectCreated for name in CREATED}
    kinds.update({f"ObjectRemoved:{name}": ObjectRemoved for name in REMOVED})
    kinds.update(dict.fromkeys(_ALSO_CREATED, ObjectCreated))
    kinds.update(dict.fromkeys(_ALSO_REMOVED, ObjectRemoved))
    return kinds | {f"s3:{name}": kind for name, kind in kinds.items()}


KINDS = _kinds()
"""By name, with and without "s3:" in front: AWS and Ceph RGW leave it out of their records."""
