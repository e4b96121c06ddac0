"""Files by URL: bounded, retried, and only to hosts that may be contacted. The worker moves media with it."""
