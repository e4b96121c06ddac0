"""How often a bucket is listed. Pure."""

from __future__ import annotations

import random

GENTLE = 10
"""A pause is at least this many times as long as the listing before it took."""
YOUNG_AGAIN = 5
"""Listings that met unsettled objects are repeated after this many times `settle_s`."""
JITTER = 0.1
"""Pauses differ by this part of theirs, so that buckets and listeners do not list in step."""


def pause_s(listing_s: float, interval_s: float, *, settle_s: float, unsettled: bool, rng: random.Random) -> float:
    """Seconds from the end of a listing to the next one nobody asks for.

    `listing_s` is how long the store was busy with it; `unsettled`: objects were passed over because they may still
    be written.
    """
    wanted = min(interval_s, settle_s * YOUNG_AGAIN) if unsettled else interval_s
    return max(wanted * rng.uniform(1 - JITTER, 1 + JITTER), listing_s * GENTLE)
