"""What is known of RunPod's GPU pools: which of them can encode video."""

from __future__ import annotations

from collections.abc import Iterable

NVENC = ("AMPERE_16", "AMPERE_24", "ADA_24", "ADA_32_PRO", "AMPERE_48", "ADA_48_PRO", "BLACKWELL_96")
"""Pools all of whose cards have an encoder; cheaper ones first."""

NO_NVENC = {
    "AMPERE_80": "A100",
    "ADA_80_PRO": "H100",
    "HOPPER_141": "H200",
    "BLACKWELL_180": "B200",
}
"""Pools of cards that were built without one, and the cards."""

MOST_POOLS = 3
"""RunPod places workers on this many kinds of GPU, in order."""


def without_nvenc(pools: Iterable[str]) -> tuple[str, ...]:
    """Those of `pools` that cannot encode video, with their cards: "AMPERE_80 (A100)"."""
    return tuple(f"{pool} ({NO_NVENC[pool]})" for pool in pools if pool in NO_NVENC)


def unknown_gpus(pools: Iterable[str]) -> tuple[str, ...]:
    return tuple(pool for pool in pools if pool not in NVENC and pool not in NO_NVENC)
