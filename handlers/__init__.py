"""How operations are planned and finished, as pure functions of their arguments."""
