"""The command line of `gpudrop`."""
