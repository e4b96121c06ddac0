"""Random histories of drops and faults: what users do, what goes wrong, and what must have come of it."""
