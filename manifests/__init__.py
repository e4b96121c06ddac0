"""The documents that users drop, and the documents that they find."""
