"""Triggers: which event starts a run. Pure."""
