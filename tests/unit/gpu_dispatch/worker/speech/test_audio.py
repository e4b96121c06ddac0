"""Sound out of real files, with the ffmpeg of the system and with the one that imageio-ffmpeg brings."""

from __future__ import annotations

import shutil
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest

from gpu_dispatch.worker.speech.audio import Pcm, decode_audio, to_samples
from gpu_dispatch.worker.speech.engine import SAMPLE_RATE
from gpu_dispatch.worker.video.ffmpeg import FFmpeg
from manifests.errors import InputEmpty, InputMissing, InputTooLarge, MediaUnreadable, NoAudio
from support.media import Media
from support.requirements import require


@pytest.fixture(params=["system", "bundled"])
def ffmpeg(request: pytest.FixtureRequest) -> FFmpeg:
    path = shutil.which("ffmpeg") if request.param == "system" else imageio_ffmpeg.get_ffmpeg_exe()
    require(path, "ffmpeg is not installed.", "install the package ffmpeg")
    return FFmpeg(str(path), timeout_s=60.0)


def loud(pcm: Pcm, start: float, end: float) -> float:
    """Root mean square between two moments, of 1."""
    part = to_samples(pcm[int(start * SAMPLE_RATE) : int(end * SAMPLE_RATE)])
    return float(np.sqrt(np.square(part).mean()))


@pytest.mark.parametrize("suffix", [".mp3", ".flac", ".ogg", ".m4a", ".mkv", ".wav"])
async def test_sound_keeps_its_length_and_pitch(ffmpeg: FFmpeg, media: Media, suffix: str) -> None:
    pcm = (await decode_audio(media.tone(2.0, hertz=440, suffix=suffix), ffmpeg)).pcm
    assert len(pcm) / SAMPLE_RATE == pytest.approx(2.0, abs=0.06)
    spectrum = np.abs(np.fft.rfft(to_samples(pcm[8000:24000])))
    assert int(spectrum.argmax()) == pytest.approx(440, abs=2)


async def test_stereo_at_any_rate_becomes_one_channel(ffmpeg: FFmpeg, media: Media) -> None:
    file = media.make(".wav", "-f", "lavfi", "-i", "sine=frequency=300:sample_rate=48000:duration=1", "-ac", "2")
    assert len((await decode_audio(file, ffmpeg)).pcm) == pytest.approx(SAMPLE_RATE, abs=32)


async def test_sound_that_sets_in_late_keeps_its_place(ffmpeg: FFmpeg, media: Media) -> None:
    """Else every subtitle of such a video would come too early."""
    picture, sound = media.video(3.0), media.tone(1.5)
    late = ("-i", str(picture), "-itsoffset", "1.2", "-i", str(sound), "-map", "0:v", "-map", "1:a")
    pcm = (await decode_audio(media.make(".mkv", *late, "-c:v", "copy"), ffmpeg)).pcm
    assert loud(pcm, 0.1, 1.1) < 0.001
    assert loud(pcm, 1.3, 2.5) > 0.05


async def test_what_cannot_be_heard_is_told(ffmpeg: FFmpeg, media: Media, tmp_path: Path) -> None:
    text = tmp_path / "song.mp3"
    text.write_text("no music\n" * 500)
    empty = tmp_path / "empty.wav"
    empty.touch()
    header_only = tmp_path / "header.wav"
    header_only.write_bytes(media.tone(1.0).read_bytes()[:44])
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(media.video(2.0, hertz=440).read_bytes()[:600])
    for file, expected in (
        (text, MediaUnreadable),
        (empty, InputEmpty),
        (header_only, MediaUnreadable),
        (cut, MediaUnreadable),
        (media.video(), NoAudio),
        (media.image(), MediaUnreadable),
        (tmp_path / "nothing.mp3", InputMissing),
    ):
        with pytest.raises(expected) as caught:
            await decode_audio(file, ffmpeg)
        assert caught.value.info.where == file.name
        assert caught.value.info.hint


async def test_a_playlist_under_a_media_name_reads_no_other_file(ffmpeg: FFmpeg, media: Media, tmp_path: Path) -> None:
    secret = media.tone(1.0, suffix=".ts")
    hostile = tmp_path / "talk.mp4"
    hostile.write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{secret}\n#EXT-X-ENDLIST\n")
    with pytest.raises(MediaUnreadable):
        await decode_audio(hostile, ffmpeg)


async def test_too_long_is_refused(ffmpeg: FFmpeg, media: Media, tmp_path: Path) -> None:
    raw = tmp_path / "untold.aac"  # a stream that does not say its length
    raw.write_bytes(media.make(".aac", "-i", str(media.tone(8.0))).read_bytes())
    for file in (media.tone(8.0), raw):
        with pytest.raises(InputTooLarge):
            await decode_audio(file, ffmpeg, max_duration_s=3.0)
