"""Transfers files by URL, such as a worker's media: bounded, retried, and only with hosts that may be contacted."""
