"""The one network room: what every way out needs, and the way in for strangers, each once."""
