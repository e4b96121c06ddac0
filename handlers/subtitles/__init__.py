"""Subtitle documents: words and cues, written as SRT, VTT, ASS, LRC, TTML and text, and parsed."""
