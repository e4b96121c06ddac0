"""ffmpeg filters that turn any decoded video into an upright 8-bit 4:2:0 picture of even size and square pixels."""

from __future__ import annotations

from gpu_dispatch.cores import usable_cores
from gpu_dispatch.worker.video.probe import VideoTrack

_HDR = frozenset({"smpte2084", "arib-std-b67"})
_HD_LINES = 720
_FRAMES_IN_PIXELS = 2**28
"""Pixels of the frames of all threads together: eight frames of 8K."""

_TONEMAP = (
    # 203 candela per square metre is white in HDR programmes (ITU-R BT.2408).
    "zscale=t=linear:npl=203",
    "format=gbrpf32le",
    "zscale=p=bt709",
    "tonemap=hable:desat=0",
    "zscale=t=bt709:m=bt709:r=tv",
    "format=yuv420p",
)
_BT2020_TO_BT709 = ("zscale=p=bt709:t=bt709:m=bt709:r=tv",)


def normalising_filters(track: VideoTrack) -> list[str]:
    """Returns the filters in order; ffmpeg applies the rotation before the first one.

    Colours stay as the file describes them, since a conversion costs work on every pixel; only what ordinary players
    cannot show (HDR, BT.2020, RGB, full range) is converted. A file without a description is labelled with what players
    assume for its size: BT.709 from 720 lines on, else BT.601. An odd row or column is cropped, not scaled.
    """
    width, height = (int(side) // 2 * 2 for side in track.display_size)
    chain = [*_colour_conversion(track), "crop=trunc(iw/2)*2:trunc(ih/2)*2:0:0"]
    if track.sar[0] != track.sar[1]:
        chain.append(f"scale={max(2, width)}:{max(2, height)}")
    return [*chain, "format=yuv420p", "setsar=1", *_label(track)]


def keep_times(track: VideoTrack) -> list[str]:
    """Returns output arguments that keep every frame and its time.

    By default ffmpeg aligns frames to the average rate, which moves and drops frames of a variable rate.
    """
    return ["-fps_mode", "vfr", *([] if track.steady else ["-enc_time_base", "1:90000"])]


def frame_threads(track: VideoTrack) -> int:
    """Returns the threads of a decoder or an encoder, each of which holds frames in memory; 0: no limit."""
    threads = _FRAMES_IN_PIXELS // (track.width * track.height)
    return 0 if threads >= usable_cores() * 2 else max(2, threads)


def decoder_threads(track: VideoTrack) -> list[str]:
    """Returns `frame_threads` as input options."""
    return ["-threads", str(threads)] if (threads := frame_threads(track)) else []


def _colour_conversion(track: VideoTrack) -> tuple[str, ...]:
    if track.transfer in _HDR:
        return (_params("bt2020nc", "bt2020", track.transfer), *_TONEMAP)
    if track.matrix.startswith("bt2020"):
        return (_params("bt2020nc", "bt2020", track.transfer or "bt2020-10"), *_BT2020_TO_BT709)
    if _is_rgb(track):
        return ("scale=out_color_matrix=bt709:out_range=tv",)
    return ("scale=out_range=tv",) if track.full_range else ()


def _label(track: VideoTrack) -> list[str]:
    if track.transfer in _HDR or track.matrix.startswith("bt2020") or _is_rgb(track):
        space = "bt709"
    elif track.matrix:
        return []
    else:
        space = "bt709" if min(track.display_size) >= _HD_LINES else "smpte170m"
    return [f"{_params(space, space, space)}:range=tv"]


def _is_rgb(track: VideoTrack) -> bool:
    return track.matrix == "gbr" or track.pix_fmt.startswith(("rgb", "bgr", "gbr", "argb", "abgr", "pal8", "0rgb"))


def _params(matrix: str, primaries: str, transfer: str) -> str:
    """Returns the filter that labels frames without changing pixels."""
    return f"setparams=colorspace={matrix}:color_primaries={primaries}:color_trc={transfer}"
