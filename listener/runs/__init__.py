"""The workflow of one run, and what schedules, recovers and forgets runs."""
