"""Events from MinIO's own event stream (ListenBucketNotification)."""
