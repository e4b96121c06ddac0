"""Events that stores post over HTTP, answered once they are durable."""
