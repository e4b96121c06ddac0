"""Which event starts what. Pure."""
