"""Fixtures by subject: see tests/support."""

pytest_plugins = (
    "support.selection",
    "support.distribution",
    "support.requirements",
    "support.stores",
    "support.servers",
    "support.databases",
    "support.store_events",
    "support.models",
    "support.media",
    "support.speech",
    "support.spoken_words",
    "support.processes",
    "support.places",
    "support.installation",
    "support.receiver",
    "support.attempts",
    "support.runs",
    "support.runpod.fixtures",
)
