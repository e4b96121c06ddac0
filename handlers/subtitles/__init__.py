"""Subtitle documents: words and cues in, SRT, VTT, ASS, LRC and text out, and back again."""
