"""`python -m listener` is `gpudrop`."""

from listener.cli.main import main

main()
