"""One run's whole story, and what starts, ends and outlives it."""
