"""The edge: events in, runs told from start to end, outputs and sidecars out."""
