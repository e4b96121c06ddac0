"""WHAT was asked: the documents users drop, and the documents they find."""
