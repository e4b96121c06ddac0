"""The operation transcribe, and speech engines behind one protocol."""
