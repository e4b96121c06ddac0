"""Events from Amazon SQS, and from servers that speak its protocol."""
