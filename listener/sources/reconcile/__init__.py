"""Events from listing buckets: finds what no other source reported."""
