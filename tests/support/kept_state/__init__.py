"""The state of a listener that was killed with runs at every stage, kept so that later versions can go on with it.

`PYTHONPATH=tests python -m support.kept_state.record VERSION --code CHECKOUT` records that of one version,
`documents` keeps it in a file and brings it back, and `tests/e2e/test_kept_state.py` has today's listener go on with
it.

A state is both databases as SQL, the store's objects (of large ones the size) and the provider's jobs; a released
version is recorded once, some 60 kB. One brought back is as old as it was: every moment near the kill is moved to now.
Versions of objects, which hold inodes and times, become those of the new place; ids of runs stay. The recorder names
the coroutines in which runs are held: they follow the code that it records.
"""
