"""Work in short-lived processes, so that what it takes goes back to the system."""
