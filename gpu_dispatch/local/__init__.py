"""This machine as a backend: one worker in a child process for each slot."""
