"""What stores send about their objects, read into events."""
