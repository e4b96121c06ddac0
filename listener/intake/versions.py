"""Whether the object under a key is the version that was taken in, or another one. Pure.

HEAD and listings give whole seconds. Within one, a store whose sequencers are nanoseconds of the last change still
tells versions apart: of the same bytes written twice, the later writing has the later moment.
"""

from __future__ import annotations

from dataclasses import replace

from listener.ledger.inbox import InboxEvent
from listener.ledger.objects import SeenVersion, fingerprint
from listener.store import ObjectMeta

SECOND_NS = 1_000_000_000


def is_same(told: InboxEvent, meta: ObjectMeta, seen: SeenVersion) -> bool:
    """Whether `meta`, what HEAD says now, is the version of `seen`."""
    if seen.fingerprint != fingerprint(meta):
        return False
    if meta.version_id is not None:
        return seen.version == meta.version
    # Written after that version, and told of since: whether the bytes are the same or HEAD's are newer still.
    return not (seen.exact and _moment(told, meta) > seen.moment)


def may_return(meta: ObjectMeta, seen: SeenVersion) -> bool:
    """Whether a version that has had a run is new all the same: another one, or none, was there in between."""
    return seen.fingerprint != fingerprint(meta) or meta.version_id is None


def seen_now(told: InboxEvent, meta: ObjectMeta, seen: SeenVersion) -> SeenVersion:
    """What is known of the version that `meta` is, after it has been looked at.

    Its moment is known for certain when the latest that was told of wrote the same bytes. If it wrote others, the
    version is a later one, since what is there now is later than whatever was told of.
    """
    moment = _moment(told, meta)
    known = SeenVersion(fingerprint(meta), seen.version, seen.moment, seen.exact)
    if not is_same(told, meta, seen):
        known = replace(known, version="", exact=False)
    if moment <= known.moment:
        return known
    return replace(known, moment=moment, exact=told.etag == meta.etag)


def _moment(told: InboxEvent, meta: ObjectMeta) -> int:
    """Of an event about another second, or with a sequencer that counts something else, nothing is believed."""
    second = int(meta.last_modified.timestamp())
    return told.moment if told.moment // SECOND_NS == second else 0
