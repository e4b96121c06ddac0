"""`python -m listener` is `gpudrop`."""

from listener.cli import main

main()
