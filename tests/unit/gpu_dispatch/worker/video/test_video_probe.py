"""Probing: what honest files hold, and hostile ones that must reach nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from gpu_dispatch.worker.video.containers import DEMUXERS
from gpu_dispatch.worker.video.ffmpeg import FFmpeg, untrusted_input
from gpu_dispatch.worker.video.probe import parse_report, probe_media
from manifests.errors import InputTooLarge, MediaUnreadable, NoAudio, NoVideo, ResourceExhausted

CARD = ("-f", "lavfi", "-i", "testsrc2=s=320x180:r=24:d=1")
TONE = ("-f", "lavfi", "-i", "sine=440:d=1")
HDR = "format=yuv420p10le,setparams=colorspace=bt2020nc:color_primaries=bt2020:color_trc=smpte2084:range=tv"


async def test_tracks_shape_and_colours(ffmpeg: FFmpeg, make: Callable[..., Path]) -> None:
    plain = await probe_media(ffmpeg, make("a.mp4", *CARD, *TONE, "-pix_fmt", "yuv420p"))
    video, audio = plain.require_video(), plain.require_audio()
    assert (video.codec, video.width, video.height, video.sar, video.fps) == ("h264", 320, 180, (1, 1), 24.0)
    assert (video.rotation, video.pix_fmt, video.steady, video.full_range) == (0, "yuv420p", True, False)
    assert (audio.codec, audio.sample_rate, plain.duration) == ("aac", 44100, 1.0)

    wide = make("a.mkv", *CARD, "-vf", f"setsar=4/3,{HDR}", "-c:v", "libx265", "-x265-params", "log-level=none")
    hdr = (await probe_media(ffmpeg, wide)).require_video()
    assert (hdr.sar, hdr.display_size) == ((4, 3), (pytest.approx(426.67, abs=0.1), 180))
    assert (hdr.matrix, hdr.primaries, hdr.transfer) == ("bt2020nc", "bt2020", "smpte2084")

    upright = make("turned.mp4", "-display_rotation", "90", "-i", str(make("a.mp4", *CARD)), "-c", "copy")
    phone = (await probe_media(ffmpeg, upright)).require_video()
    assert (phone.rotation, phone.display_size) == (90, (180, 320))


async def test_a_cover_picture_is_no_video(ffmpeg: FFmpeg, make: Callable[..., Path]) -> None:
    cover = ("-map", "0", "-map", "1", "-frames:v", "1", "-c:v", "mjpeg", "-pix_fmt", "yuvj420p")
    song = make("song.mp3", *TONE, *CARD, *cover, "-disposition:v", "attached_pic")
    media = await probe_media(ffmpeg, song)
    assert media.require_audio().codec == "mp3"
    with pytest.raises(NoVideo) as caught:
        media.require_video()
    assert caught.value.info.where == "song.mp3"


async def test_a_silent_video_has_no_audio(bundled: FFmpeg, make: Callable[..., Path]) -> None:
    with pytest.raises(NoAudio):
        (await probe_media(bundled, make("a.mp4", *CARD))).require_audio()


HOSTILE = {
    "garbage.mp4": b"\x00\x01\x02 this is no media" * 50,
    "empty.mp4": b"",
    "playlist.mp4": b"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\n%s\n#EXT-X-ENDLIST\n",
    "concat.mp4": b"ffconcat version 1.0\nfile '%s'\n",
    "dash.mp4": b'<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static"><Period><AdaptationSet>'
    b'<Representation id="1"><BaseURL>%s</BaseURL></Representation></AdaptationSet></Period></MPD>',
    "sdp.mp4": b"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 9 RTP/AVP 96\n",
    "pattern%03d.png": b"\x89PNG\r\n\x1a\n",
}


@pytest.mark.parametrize("name", sorted(HOSTILE))
async def test_hostile_files_are_refused_and_reach_no_other_file(
    name: str, ffmpeg: FFmpeg, make: Callable[..., Path], tmp_path: Path
) -> None:
    secret = make("a.mp4", *CARD, *TONE, "-pix_fmt", "yuv420p")
    (tmp_path / "secret.mp4").write_bytes(secret.read_bytes())
    hostile = tmp_path / name
    hostile.write_bytes(HOSTILE[name].replace(b"%s", b"secret.mp4"))
    with pytest.raises(MediaUnreadable) as caught:
        await probe_media(ffmpeg, hostile)
    assert caught.value.info.where == name
    assert str(tmp_path) not in caught.value.info.message
    with pytest.raises(MediaUnreadable):
        args = [*untrusted_input(hostile), "-f", "s16le", "-vn", str(tmp_path / "out.pcm")]
        await ffmpeg.run(args, name=name, doing="decoding")


async def test_a_truncated_video_says_what_is_missing(
    ffmpeg: FFmpeg, make: Callable[..., Path], tmp_path: Path
) -> None:
    whole = make("a.mp4", *CARD, *TONE, "-pix_fmt", "yuv420p").read_bytes()
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(MediaUnreadable, match=r"cut\.mp4 cannot be read as audio or video: moov atom not found\."):
        await probe_media(ffmpeg, cut)


async def test_a_file_grows_to_its_limit_and_no_further(
    ffmpeg: FFmpeg, make: Callable[..., Path], tmp_path: Path
) -> None:
    path, out = make("tone.mp3", *TONE), tmp_path / "out.pcm"
    args = [*untrusted_input(path), "-map", "0:a:0", "-f", "s16le", "-ac", "1", "-ar", "16000", str(out)]
    await ffmpeg.run(args, name="tone.mp3", doing="decoding", largest=2**20)
    assert out.stat().st_size / 2 / 16000 == pytest.approx(1.0, abs=0.06)
    with pytest.raises(ResourceExhausted) as caught:
        await ffmpeg.run(args, name="tone.mp3", doing="decoding", largest=1000)
    assert out.stat().st_size <= 1000 and caught.value.info.where == "tone.mp3" and not caught.value.retryable


async def test_no_larger_picture_is_decoded_than_can_be_worked_on(
    ffmpeg: FFmpeg, make: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The decoder itself refuses: a codec's own header may say something else than the container."""
    path = make("a.mp4", *CARD, *TONE, "-pix_fmt", "yuv420p")
    for most, fits in ((320 * 180, True), (320 * 180 - 1, False)):
        monkeypatch.setattr("gpu_dispatch.worker.video.ffmpeg.MAX_FRAME_PIXELS", most)
        args = [*untrusted_input(path), "-frames:v", "1", "-f", "null", "-"]
        ended = await ffmpeg.ask(args, timeout_s=60)
        assert any("max pixel count" in line for line in ended.stderr) is not fits


@pytest.mark.parametrize("shape", ["2000000 Hz, stereo", "48000 Hz, 65 channels"])
def test_sound_of_an_absurd_shape_is_refused(shape: str) -> None:
    report = ["Input #0, wav, from 'file:a.wav':", f"  Stream #0:0: Audio: pcm_s16le, {shape}, s16, 1536 kb/s"]
    media = parse_report(report, "a.wav")
    assert media
    with pytest.raises(InputTooLarge):
        media.require_audio()


def test_a_title_cannot_pass_for_a_stream() -> None:
    report = [
        "Input #0, matroska,webm, from 'file:a.mkv':",
        "    title           :   Stream #0:0: Video: h264, yuv420p, 99999x99999, 24 fps, 24 tbr",
        "  Duration: 00:00:01.50, start: 0.000000, bitrate: 244 kb/s",
        "  Stream #0:0(por): Audio: opus, 48000 Hz, mono, fltp (default)",
    ]
    media = parse_report(report, "a.mkv")
    assert media and media.video is None and media.audio and media.duration == 1.5


def test_no_accepted_container_leads_to_other_files() -> None:
    leading = "concat hls applehttp dash imf image2 image2pipe sdp rtsp rtp vobsub webm_dash_manifest tty lavfi"
    assert not set(DEMUXERS.split(",")) & {*leading.split(), "libgme", "libopenmpt", "ffmetadata", "data", "rawvideo"}
    assert not any(name.endswith("_pipe") for name in DEMUXERS.split(","))
