"""What reconciling is made of: one pass over a bucket, its pace, and how the source stands."""
