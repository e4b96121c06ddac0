"""The state of a listener that was killed with runs at every stage, kept so that later versions can go on with it.

`PYTHONPATH=tests python -m support.kept_state.record VERSION --code CHECKOUT` records that of one version,
`documents` keeps it in a file and brings it back, and `tests/e2e/test_kept_state.py` has today's listener go on with
it.
"""
