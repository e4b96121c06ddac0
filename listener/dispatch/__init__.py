"""Executes planned tasks on endpoints and returns their results: paid for once, whatever fails on the way."""
