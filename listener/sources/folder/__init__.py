"""A folder on this machine, watched or polled."""
