"""The network as this project meets it."""
