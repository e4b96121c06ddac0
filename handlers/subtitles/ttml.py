"""TTML in IMSC 1.0.1's text profile: https://www.w3.org/TR/ttml-imsc1.0.1/"""

from __future__ import annotations

import re
from collections.abc import Sequence
from xml.sax.saxutils import escape

from handlers.subtitles.model import Cue
from handlers.subtitles.text import language_tag, leads_right_to_left

_FORBIDDEN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What XML 1.0 cannot hold, even escaped."""
_HEAD = """\
<?xml version="1.0" encoding="UTF-8"?>
<tt xmlns="http://www.w3.org/ns/ttml" xmlns:ttp="http://www.w3.org/ns/ttml#parameter"
    xmlns:tts="http://www.w3.org/ns/ttml#styling" xml:lang="{language}" ttp:timeBase="media"
    ttp:cellResolution="32 15" ttp:profile="http://www.w3.org/ns/ttml/profile/imsc1/text">
 <head>
  <styling>
   <style xml:id="cue" tts:fontFamily="proportionalSansSerif" tts:fontSize="100%" tts:lineHeight="125%"
    tts:textAlign="center"/>
   <style xml:id="text" tts:color="white" tts:backgroundColor="#000000c0"/>
  </styling>
  <layout>
   <region xml:id="bottom" tts:origin="10% 10%" tts:extent="80% 80%" tts:displayAlign="after"/>
  </layout>
 </head>
 <body>
  <div>
"""
"""A cell is a fifteenth of the picture's height, so 42 Latin letters fill a line of four fifths of 16:9."""
_TAIL = """\
  </div>
 </body>
</tt>
"""
_RTL = ' tts:direction="rtl" tts:unicodeBidi="embed"'


def write_ttml(cues: Sequence[Cue], language: str) -> str:
    """Writes a paragraph for each cue; one that begins with a letter written from right to left runs that way."""
    parts = [_HEAD.format(language=language_tag(language))]
    for number, cue in enumerate(cues, start=1):
        direction = _RTL if leads_right_to_left(cue.text) else ""
        lines = "<br/>".join(escape(_FORBIDDEN.sub("\ufffd", line.text)) for line in cue.lines)
        times = f'begin="{_clock(cue.start_ms)}" end="{_clock(cue.end_ms)}"'
        attributes = f'xml:id="c{number}" region="bottom" style="cue" {times}{direction}'
        parts.append(f'   <p {attributes}><span style="text">{lines}</span></p>\n')
    return "".join([*parts, _TAIL])


def _clock(ms: int) -> str:
    return f"{ms // 3_600_000:02d}:{ms // 60_000 % 60:02d}:{ms // 1000 % 60:02d}.{ms % 1000:03d}"
