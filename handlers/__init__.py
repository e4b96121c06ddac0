"""HOW an operation is planned and finished: pure functions of their arguments."""
