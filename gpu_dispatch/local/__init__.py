"""Runs tasks on this machine: one worker in a child process for each slot."""
