"""From what sources tell to recorded runs: a durable inbox, and whoever empties it."""
