"""How long tests wait for what happens at last."""

HANG_S = 240.0
"""Only a guard, and below pytest's own: no wait comes near it unless something hangs, on a busy machine either. Whoever
asserts that nothing happens waits a moment of its own instead."""
