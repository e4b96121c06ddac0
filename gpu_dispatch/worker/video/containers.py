"""Containers that untrusted media may have: each is read from one file alone."""

from __future__ import annotations

_COMMON = "mov,matroska,webm,avi,mpegts,mpeg,flv,asf,mp3,wav,flac,ogg,aac,aiff,amr,caf"
_RECORDERS = "w64,au,voc,ircam,nistsphere,sox,mxf,gxf,dv,nut,rm,wtv,pva,nsv,act,dss,oma,qcp,xwma,iff,dsf,mmf,wve"
_STREAMS = "ac3,eac3,dts,dtshd,truehd,mlp,loas,spdif,amrnb,amrwb,gsm,g722,g729,sbc"
_LOSSLESS = "tta,wv,ape,tak,shn,mpc,mpc8"

DEMUXERS = ",".join((_COMMON, _RECORDERS, _STREAMS, _LOSSLESS))
"""ffmpeg's names of the accepted containers. None of them follows references to other files or addresses: no playlist,
no list of parts, no series of pictures, no device, nothing that ffmpeg itself would generate."""

RESTARTING = frozenset({"mpegts", "mpegtsraw", "mpeg", "ogg", "nut", "wtv", "pva"})
"""Those whose times ffmpeg counts from the first *selected* track instead of from the container's start."""
