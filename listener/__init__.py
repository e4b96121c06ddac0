"""The listener: turns events into runs, executes them, and writes outputs and sidecars."""
