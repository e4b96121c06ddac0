"""Video operations on ffmpeg."""
