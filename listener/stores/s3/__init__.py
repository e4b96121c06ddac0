"""Objects in MinIO, AWS S3 and every other store that speaks S3."""
