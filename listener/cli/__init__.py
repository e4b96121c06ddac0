"""The command line: what `gpudrop` can be told to do."""
