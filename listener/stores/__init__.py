"""The stores: objects in S3 and its relatives, and a folder on this machine that is used like a bucket."""
