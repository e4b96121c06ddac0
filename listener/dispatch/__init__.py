"""From a planned task to its result, on whichever endpoint does it: paid for once, whatever fails on the way."""
