"""Message brokers that stores publish their events to."""
