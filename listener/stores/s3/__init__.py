"""Objects in MinIO, AWS S3 and other servers with the S3 API."""
