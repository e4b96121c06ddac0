"""Any recording that ffmpeg can decode becomes the same sound, at the file's own times."""

from __future__ import annotations

import shutil
import subprocess
import wave
from dataclasses import dataclass
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest

from gpu_dispatch.worker.speech.audio import Sound, decode_audio, to_samples
from gpu_dispatch.worker.speech.engine import SAMPLE_RATE, Samples
from gpu_dispatch.worker.video.ffmpeg import FFmpeg
from manifests.errors import MediaUnreadable, NoAudio
from manifests.options import RawPcm, SoundSource
from support.speech import Speech

LENGTH_S = 8.0
DELAY_S = 0.08
"""Most that a codec adds at 16 kHz where the container does not note its delay."""
BUNDLED = imageio_ffmpeg.get_ffmpeg_exe()
SYSTEM = shutil.which("ffmpeg")
PROGRAMS = [BUNDLED, *([SYSTEM] if SYSTEM else [])]
PICTURE = ("-f", "lavfi", "-i", f"testsrc2=size=160x90:rate=25:duration={LENGTH_S}")


@dataclass(frozen=True)
class Studio:
    """Makes files of one piece of speech, LENGTH_S long, by the ffmpeg that has the most encoders."""

    folder: Path
    plain: Path

    def make(self, name: str, *arguments: str, before: tuple[str, ...] = ()) -> Path:
        path = self.folder / name
        command = [BUNDLED, "-nostdin", "-v", "error", "-y", *before, "-i", str(self.plain), *arguments, str(path)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
        return path

    def samples(self) -> Samples:
        with wave.open(str(self.plain)) as sound:
            return to_samples(np.frombuffer(sound.readframes(sound.getnframes()), np.int16))

    def channels(self, name: str, *channels: Samples) -> Path:
        path = self.folder / name
        with wave.open(str(path), "wb") as sound:
            sound.setnchannels(len(channels))
            sound.setsampwidth(2)
            sound.setframerate(SAMPLE_RATE)
            sound.writeframes((np.stack(channels, 1) * 32767).astype(np.int16).tobytes())
        return path


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory, speech: Speech) -> Studio:
    folder = tmp_path_factory.mktemp("recordings")
    plain = folder / "plain.wav"
    cut = ("-t", str(LENGTH_S), "-ar", str(SAMPLE_RATE), "-ac", "1", "-bitexact", str(plain))
    subprocess.run([BUNDLED, "-v", "error", "-i", str(speech.file), *cut], check=True, timeout=60)
    return Studio(folder, plain)


async def heard(path: Path, source: SoundSource | None = None, *, program: str = BUNDLED) -> Sound:
    return await decode_audio(path, FFmpeg(program, timeout_s=60.0), source)


def lag(sound: Sound, studio: Studio) -> float:
    """By how many seconds `sound` is later than the speech it was made of; it must be that speech."""
    got, said = to_samples(sound.pcm), studio.samples()
    size = 1 << (len(got) + len(said)).bit_length()
    match = np.fft.irfft(np.fft.rfft(got, size) * np.conj(np.fft.rfft(said, size)), size)
    best = int(np.argmax(match))
    assert match[best] / np.linalg.norm(got) / np.linalg.norm(said) > 0.85
    return (best - size if best > size // 2 else best) / SAMPLE_RATE


def envelope(samples: Samples) -> Samples:
    """Level of every 50 ms."""
    whole = len(samples) // 800 * 800
    return np.sqrt(np.square(samples[:whole].reshape(-1, 800)).mean(axis=1))


FORMATS = {
    "a.aac": ("-c:a", "aac"),
    "a.ac3": ("-c:a", "ac3"),
    "a.eac3": ("-c:a", "eac3"),
    "a.dts": ("-ar", "48000", "-ac", "2", "-c:a", "dca", "-strict", "-2"),
    "a.au": (),
    "a.w64": (),
    "a.caf": (),
    "a.aiff": (),
    "a.amr": ("-ar", "8000", "-c:a", "libopencore_amrnb"),
    "a.wma": ("-c:a", "wmav2"),
    "a.tta": (),
    "a.wv": (),
    "a.mp2": ("-c:a", "mp2"),
    "a.m4b": ("-c:a", "alac"),
    "a.opus": ("-c:a", "libopus"),
    "a.oga": ("-c:a", "flac"),
    "a.mka": ("-c:a", "pcm_s24le"),
    "a.thd": ("-ar", "48000", "-ac", "2", "-c:a", "truehd", "-strict", "-2", "-f", "truehd"),
    "a.voc": ("-c:a", "pcm_s16le"),
    "a.flv": ("-ar", "44100", "-c:a", "libmp3lame"),
    "a.3gp": ("-c:a", "aac"),
    "a.nut": (),
    "a.rm": ("-ar", "44100", "-c:a", "ac3"),
    "8.flac": ("-ar", "8000"),
    "192.flac": ("-ar", "192000"),
    "a.g722": ("-c:a", "g722"),
    "rf64.wav": ("-rf64", "always"),
    "extensible.wav": ("-c:a", "pcm_s24le", "-ac", "2"),
    "lossy.wav": ("-ar", "44100", "-c:a", "libmp3lame", "-q:a", "2"),
    "ulaw.wav": ("-ar", "8000", "-c:a", "pcm_mulaw"),
    "adpcm.wav": ("-ar", "44100", "-c:a", "adpcm_ima_wav"),
}


@pytest.mark.parametrize("name", FORMATS)
async def test_every_format_gives_the_same_sound(studio: Studio, name: str) -> None:
    sound = await heard(studio.make(name, *FORMATS[name]))
    assert len(sound.pcm) / SAMPLE_RATE == pytest.approx(LENGTH_S, abs=0.15)
    assert lag(sound, studio) == pytest.approx(0.0, abs=DELAY_S)
    assert sound.warnings == ()


FILMS = {
    "a.mxf": ("-c:v", "mpeg2video", "-ar", "48000", "-c:a", "pcm_s16le"),
    "a.mov": ("-c:v", "mpeg4", "-c:a", "pcm_s16be"),
    "a.avi": ("-c:v", "mpeg4", "-c:a", "libmp3lame"),
    "a.webm": ("-c:v", "libvpx", "-c:a", "libvorbis"),
    "a.wmv": ("-c:v", "wmv2", "-c:a", "wmav2"),
}


@pytest.mark.parametrize("name", FILMS)
async def test_films_give_their_sound(studio: Studio, name: str) -> None:
    sound = await heard(studio.make(name, *FILMS[name], before=PICTURE))
    assert lag(sound, studio) == pytest.approx(0.0, abs=DELAY_S)
    assert sound.warnings == ()


LATE = {
    "late.ts": ("-c:v", "mpeg2video", "-c:a", "mp2"),
    "late.m2ts": ("-c:v", "mpeg2video", "-c:a", "ac3"),
    "late.mpg": ("-c:v", "mpeg2video", "-c:a", "mp2"),
    "late.ogv": ("-c:v", "libtheora", "-c:a", "libvorbis"),
    "late.mkv": ("-c:v", "mpeg4", "-c:a", "flac"),
    "late.mp4": ("-c:v", "mpeg4", "-c:a", "aac"),
}


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize("name", LATE)
async def test_times_are_those_of_the_container(studio: Studio, name: str, program: str) -> None:
    film = studio.make(name, "-ar", "48000", *LATE[name], before=(*PICTURE, "-itsoffset", "3"))
    assert lag(await heard(film, program=program), studio) == pytest.approx(3.0, abs=0.06)


async def test_a_gap_in_the_time_stamps_stays_a_gap(studio: Studio) -> None:
    gap = ("-af", r"asetpts='PTS+gt(T\,4)*2/TB'", "-c:a", "flac")
    sound = await heard(studio.make("gap.mkv", *gap))
    assert len(sound.pcm) / SAMPLE_RATE == pytest.approx(LENGTH_S + 2, abs=0.1)
    said, got = studio.samples(), to_samples(sound.pcm)
    assert np.allclose(got[7 * SAMPLE_RATE :][:8000], said[5 * SAMPLE_RATE :][:8000], atol=0.01)


@pytest.mark.parametrize("seconds", [0.05, 29.99, 30.0, 30.01])
async def test_lengths_at_the_limits_of_a_window(studio: Studio, seconds: float) -> None:
    path = studio.make(f"{seconds}.flac", "-t", str(seconds), before=("-stream_loop", "4"))
    assert len((await heard(path)).pcm) == round(seconds * SAMPLE_RATE)


async def test_a_long_comment_is_no_hindrance(studio: Studio) -> None:
    path = studio.make("notes.mp3", "-metadata", f"comment={'notes ' * 12_000}")
    assert lag(await heard(path), studio) == pytest.approx(0.0, abs=0.1)


async def test_chapters_and_a_cover_are_no_hindrance(studio: Studio, tmp_path: Path) -> None:
    chapters = tmp_path / "chapters.txt"
    chapters.write_text(";FFMETADATA1\n[CHAPTER]\nTIMEBASE=1/1\nSTART=0\nEND=4\ntitle=a\n")
    book = studio.make("book.m4b", "-i", str(chapters), "-map_metadata", "1", "-map", "0:a", "-c:a", "aac")
    card = ("-f", "lavfi", "-i", "testsrc2=size=600x600:rate=1:duration=1")
    cover = ("-map", "0", "-map", "1", "-c:v", "mjpeg", "-pix_fmt", "yuvj420p", "-disposition:v", "attached_pic")
    song = studio.make("song.mp3", "-map", "1:a", "-map", "0:v", *cover[4:], before=card)
    for path in (book, song):
        sound = await heard(path)
        assert lag(sound, studio) == pytest.approx(0.0, abs=DELAY_S) and sound.warnings == ()


def inverted(said: Samples) -> tuple[Samples, ...]:
    return said, -said


def inverted_halfway(said: Samples) -> tuple[Samples, ...]:
    return said, np.where(np.arange(len(said)) < len(said) // 2, said, -said)


def inverted_under_hum(said: Samples) -> tuple[Samples, ...]:
    hum = 0.2 * np.sin(2 * np.pi * 50 * np.arange(len(said)) / SAMPLE_RATE).astype(np.float32)
    return said / 2 + hum, -said / 2 + hum


def only_right(said: Samples) -> tuple[Samples, ...]:
    return 0 * said, said


def fourth_of_six(said: Samples) -> tuple[Samples, ...]:
    return 0 * said, 0 * said, 0 * said, said, 0 * said, 0 * said


def pair_in_twelve(said: Samples) -> tuple[Samples, ...]:
    return (*[0 * said] * 6, said, -said, *[0 * said] * 4)


@pytest.mark.parametrize(
    "shape", [inverted, inverted_halfway, inverted_under_hum, only_right, fourth_of_six, pair_in_twelve]
)
async def test_no_channel_is_lost_in_the_mix(studio: Studio, shape: object) -> None:
    assert callable(shape)
    said = studio.samples()
    sound = await heard(studio.channels("mix.wav", *shape(said)))
    spectrum = np.fft.rfft(to_samples(sound.pcm))
    spectrum[: int(100 * len(sound.pcm) / SAMPLE_RATE)] = 0  # the hum
    got, wanted = envelope(np.fft.irfft(spectrum, len(sound.pcm))), envelope(said)
    assert np.corrcoef(got, wanted[: len(got)])[0, 1] > 0.98
    assert 20 * np.log10(np.linalg.norm(got) / np.linalg.norm(wanted)) > -7


async def test_ordinary_stereo_is_the_mean_of_its_channels(studio: Studio) -> None:
    said = studio.samples()
    other = np.roll(said, 3 * SAMPLE_RATE) / 2
    sound = await heard(studio.channels("stereo.wav", said, other))
    heard_both = slice(4 * SAMPLE_RATE, 5 * SAMPLE_RATE)
    assert np.abs(to_samples(sound.pcm) - (said + other) / 2)[heard_both].max() < 2 / 32768


async def test_dialogue_is_the_loudest_of_surround_sound(studio: Studio) -> None:
    layout = "pan=5.1|c0=0*c0|c1=0*c0|c2=c0|c3=0*c0|c4=0*c0|c5=0*c0"
    film = studio.make("film.ac3", "-ar", "48000", "-af", layout)
    sound = await heard(film)
    assert lag(sound, studio) == pytest.approx(0.0, abs=0.02)
    assert np.abs(to_samples(sound.pcm)).max() > 0.7 * np.abs(studio.samples()).max()


def tracks(studio: Studio, name: str, *more: str) -> Path:
    """Three tracks: a tone, the speech, silence."""
    others = ("-f", "lavfi", "-i", "sine=440:duration=8", "-f", "lavfi", "-i", "anullsrc=r=16000:cl=mono")
    languages = [f"-metadata:s:a:{n}=language={code}" for n, code in enumerate(("eng", "por", "fre"))]
    named = [part for each in languages for part in each.split("=", 1)]
    mapped = ("-map", "0", "-map", "2", "-map", "1", "-t", str(LENGTH_S), "-c:a", "flac")
    return studio.make(name, *mapped, *named, *more, before=others)


async def test_the_default_track_is_taken(studio: Studio) -> None:
    film = tracks(studio, "default.mkv", "-disposition:a:0", "comment", "-disposition:a:1", "default")
    sound = await heard(film)
    assert (sound.track, sound.tracks, sound.warnings) == (2, 3, ())
    assert lag(sound, studio) == pytest.approx(0.0, abs=0.02)


async def test_of_silent_tracks_the_first_that_is_heard(studio: Studio) -> None:
    film = tracks(studio, "silent.mkv", "-disposition:a:0", "comment", "-disposition:a:2", "default")
    sound = await heard(film)
    assert sound.track == 2
    assert sound.warnings == ("Audio track 3 is silent: track 2 was taken.",)


@pytest.mark.parametrize("asked", [2, "por", "pt", "pt-BR"])
async def test_a_track_is_asked_for_by_number_or_language(studio: Studio, asked: int | str) -> None:
    film = tracks(studio, "asked.mkv", "-disposition:a:0", "default")
    assert (await heard(film)).track == 1
    sound = await heard(film, SoundSource(track=asked))
    assert sound.track == 2
    assert lag(sound, studio) == pytest.approx(0.0, abs=0.02)


async def test_a_track_that_is_not_there_and_one_that_is_silent_are_told(studio: Studio) -> None:
    film = tracks(studio, "told.mkv")
    with pytest.raises(NoAudio, match=r"no audio track 5: it has 1 \(eng\), 2 \(por\), 3 \(fre\)\."):
        await heard(film, SoundSource(track=5))
    silent = await heard(film, SoundSource(track=3))
    assert silent.silent and "audio track 3 of 3 is silent from start to end" in silent.no_speech
    assert "There is sound (up to" in (await heard(film, SoundSource(track=1))).no_speech


CUT = {
    "cut.mp3": ("-c:a", "libmp3lame"),
    "cut.flac": (),
    "cut.opus": ("-c:a", "libopus"),
    "cut.m4a": ("-c:a", "aac", "-movflags", "+faststart"),
    "cut.mka": ("-c:a", "aac"),
    "cut.wav": (),
    "cut.aiff": (),
    "cut.caf": (),
    "cut.au": (),
    "cut.tta": (),
    "cut.wv": (),
    "cut.ts": ("-c:a", "aac"),
    "cut.flv": ("-ar", "44100", "-c:a", "libmp3lame"),
}


@pytest.mark.parametrize("name", CUT)
async def test_a_truncated_recording_gives_what_is_there_and_says_where_it_ends(studio: Studio, name: str) -> None:
    whole = studio.make(name, *CUT[name])
    assert (await heard(whole)).warnings == ()
    whole.write_bytes(whole.read_bytes()[: whole.stat().st_size * 6 // 10])
    sound = await heard(whole)
    seconds = len(sound.pcm) / SAMPLE_RATE
    assert 3.0 < seconds < 6.5
    (warning,) = sound.warnings
    assert warning.startswith(f"The recording is cut off: its sound ends at {seconds:.1f} s")


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize("name", ["cut.m4a", "cut.mp3"])
async def test_damage_in_the_middle_is_told_with_its_second(studio: Studio, name: str, program: str) -> None:
    path = studio.make(f"hurt-{name}", *CUT[name])
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 3000] = bytes(n * 37 % 256 for n in range(3000))
    path.write_bytes(data)
    told = " ".join((await heard(path, program=program)).warnings)
    assert "The recording is damaged at " in told
    assert float(told.split("damaged at ")[1].split(" s")[0]) == pytest.approx(LENGTH_S / 2, abs=1.2)


async def test_a_tail_of_nothing_is_told(studio: Studio) -> None:
    path = studio.make("zeros.mp3", *CUT["cut.mp3"])
    size = path.stat().st_size
    path.write_bytes(path.read_bytes()[: size // 2] + bytes(size - size // 2))
    sound = await heard(path)
    assert "cut off: its sound ends at 4." in sound.warnings[0]


@pytest.mark.parametrize(
    "sizes", [(0, 0), (2**32 - 1, 2**32 - 1), (2**31 + 36, 2**31), (2**31 - 1, 2**31 - 37), (9636, 9600)]
)
async def test_a_streamed_wav_is_whole_whatever_its_header_says(studio: Studio, sizes: tuple[int, int]) -> None:
    data = studio.plain.read_bytes()
    start = data.index(b"data") + 8
    riff, size = (each.to_bytes(4, "little") for each in sizes)
    path = studio.folder / "streamed.wav"
    path.write_bytes(data[:4] + riff + data[8 : start - 4] + size + data[start:])
    sound = await heard(path)
    assert len(sound.pcm) == LENGTH_S * SAMPLE_RATE and sound.warnings == ()


@pytest.mark.parametrize("form", ["webm", "caf", "mp3", "ogg", "flac", "wav", "asf", "mpegts"])
async def test_a_stream_without_a_length_is_whole(studio: Studio, form: str) -> None:
    codec = {"webm": ("-c:a", "libopus"), "mpegts": ("-c:a", "mp2"), "asf": ("-c:a", "wmav2")}.get(form, ())
    command = [BUNDLED, "-v", "error", "-i", str(studio.plain), *codec, "-f", form, "pipe:1"]
    done = subprocess.run(command, capture_output=True, check=True, timeout=60)
    path = studio.folder / f"live.{form}"
    path.write_bytes(done.stdout)
    sound = await heard(path)
    assert len(sound.pcm) / SAMPLE_RATE == pytest.approx(LENGTH_S, abs=0.15) and sound.warnings == ()


@pytest.mark.parametrize(
    ("pcm", "arguments"),
    [
        (RawPcm(), ("-f", "s16le", "-ar", "24000")),
        (RawPcm(rate=8000, format="mulaw"), ("-f", "mulaw", "-ar", "8000")),
        (RawPcm(rate=44100, channels=2, format="f32le"), ("-f", "f32le", "-ar", "44100", "-ac", "2")),
        (RawPcm(rate=16000, format="u8"), ("-f", "u8", "-ar", "16000")),
    ],
)
async def test_raw_pcm_by_declaration(studio: Studio, pcm: RawPcm, arguments: tuple[str, ...]) -> None:
    path = studio.make("speech.pcm", *arguments)
    for program in PROGRAMS:
        sound = await heard(path, SoundSource(pcm=pcm), program=program)
        assert len(sound.pcm) / SAMPLE_RATE == pytest.approx(LENGTH_S, abs=0.01)
        assert lag(sound, studio) == pytest.approx(0.0, abs=0.01)
    with pytest.raises(MediaUnreadable) as caught:
        await heard(path)
    assert "`pcm`" in caught.value.info.hint


async def test_a_header_outweighs_the_declaration(studio: Studio) -> None:
    sound = await heard(studio.plain, SoundSource(pcm=RawPcm()))
    assert len(sound.pcm) == LENGTH_S * SAMPLE_RATE
    assert sound.warnings == ("The file is no raw PCM: it has a header, by which it was read.",)
