"""Work in short-lived processes, whose memory goes back to the system."""
