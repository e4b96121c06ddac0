"""Runs `gpudrop` as `python -m listener`."""

from listener.cli.main import main

main()
