"""Subtitle documents: words and cues, written as SRT, VTT, ASS, LRC and text, and parsed."""
