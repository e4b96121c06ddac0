"""MinIO's own event stream (ListenBucketNotification)."""
