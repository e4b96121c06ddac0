"""Amazon SQS, and whatever speaks its protocol."""
