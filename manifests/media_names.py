"""The extensions of media files, in lower case: what `media` of a trigger takes, and what is no part of a name."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

MediaKind = Literal["audio", "video"]

_AUDIO = """
mp3 mp2 mp1 mpa m2a mpga wav wave bwf rf64 w64 flac ogg oga opus spx m4a m4b m4r aac adts loas latm ac3 eac3 ec3 dts
dtshd thd truehd mlp aif aiff aifc au snd caf amr awb 3ga wma xwma ape wv tta tak shn mpc mka weba ra gsm g722 voc qcp
dsf dff oma aa3 act dss sph ircam sox
"""
_VIDEO = """
mp4 m4v mov qt mkv mk3d webm avi divx mpg mpeg mpe mpv m1v m2v vob ts mts m2t m2ts tp trp wmv asf flv f4v 3gp 3gpp 3g2
ogv ogm ogx mxf gxf nut rm rmvb dv dif wtv pva nsv
"""

EXTENSIONS: dict[MediaKind, frozenset[str]] = {"audio": frozenset(_AUDIO.split()), "video": frozenset(_VIDEO.split())}
"""Without the dot. Samples without a header (.pcm, .raw) are not among them: nothing in them tells their rate."""

_ALL = frozenset[str]().union(*EXTENSIONS.values())


def extension(name: str) -> str:
    """Returns "mp3" for "a.b/Talk.MP3"; "" for a name without one."""
    stem, dot, ending = name.rpartition("/")[2].rpartition(".")
    return ending.lower() if dot and stem else ""


def is_media(name: str, kinds: Iterable[MediaKind] = ("audio", "video")) -> bool:
    """Returns whether `name` has the extension of a file of one of these kinds."""
    found = extension(name)
    return any(found in EXTENSIONS[kind] for kind in kinds)


def without_extension(name: str) -> str:
    """Returns `name` without the extension of a media file; a dot elsewhere ("v1.2") stays."""
    return name.rpartition(".")[0] if extension(name) in _ALL else name
