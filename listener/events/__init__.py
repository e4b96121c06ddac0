"""Events of buckets, read from the messages of every store."""
