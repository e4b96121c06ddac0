"""The sources of events; all feed the same inbox."""
