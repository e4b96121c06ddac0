"""Events from listing a bucket: what no other source told."""
