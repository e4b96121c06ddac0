"""The ledger: the inbox, objects seen and written, runs, jobs and their costs, callbacks, redrives, sources."""
