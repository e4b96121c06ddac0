"""What happened in a bucket, read from the messages of every store."""
