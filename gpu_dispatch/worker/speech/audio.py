"""Decodes any media to Whisper's input: one channel at 16 kHz."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from gpu_dispatch.worker.confinement import limit_error
from gpu_dispatch.worker.speech.damage import Complaints, cut_at, damage_warning, damaged_places, promise_of
from gpu_dispatch.worker.speech.engine import SAMPLE_RATE, Samples
from gpu_dispatch.worker.speech.mix import AUDIBLE, Mixer
from gpu_dispatch.worker.speech.tracks import tracks_in_order
from gpu_dispatch.worker.speech.waves import HEADER_BYTES, wave_header, wave_length
from gpu_dispatch.worker.video.audio_tracks import AudioTrack
from gpu_dispatch.worker.video.containers import DEMUXERS, RESTARTING
from gpu_dispatch.worker.video.ffmpeg import FFmpeg, error_line, ffmpeg_failure, untrusted_input
from gpu_dispatch.worker.video.probe import Media, probe_media
from manifests.errors import EncodeFailed, InputEmpty, InputMissing, InputTooLarge, MediaUnreadable
from manifests.options import RawPcm, SoundSource

Pcm = NDArray[np.int16]
"""One channel at SAMPLE_RATE, as integers in a memory-mapped file: an hour takes 115 MB on disk, and only the part in
use is in memory."""

MAX_DURATION_S = 72 * 3600.0

_CONTAINERS = (b"RIFF", b"RF64", b"fLaC", b"OggS", b"ID3\x02", b"ID3\x03", b"ID3\x04", b"\x1aE\xdf\xa3")
"""How files begin that hold more than samples."""


@dataclass(frozen=True, slots=True)
class Sound:
    """The sound of a recording. Its times are those of the file: 0.0 is the container's start."""

    pcm: Pcm
    warnings: tuple[str, ...] = ()
    """What a user should know of it, a sentence each."""
    track: int = 1
    """Number of the audio track, from 1."""
    tracks: int = 1
    peak: int = 32767
    """The highest absolute sample of any channel."""

    @property
    def silent(self) -> bool:
        return self.peak < AUDIBLE

    @property
    def no_speech(self) -> str:
        """Why a transcript of it may be empty, as a sentence."""
        which = f"audio track {self.track} of {self.tracks}" if self.tracks > 1 else "the recording"
        other = "; `track` chooses another" if self.tracks > 1 else ""
        if self.silent:
            return f"Nothing can be heard: {which} is silent from start to end{other}."
        level = 20 * np.log10(self.peak / 32768)
        return f"There is sound (up to {level:.0f} dB) in {which}, but no speech was recognised in it{other}."


@dataclass(frozen=True, slots=True)
class _Recording:
    """An examined file and the arguments that open it."""

    path: Path
    media: Media
    source: tuple[str, ...]
    longest: float
    """Seconds."""
    notes: list[str] = field(default_factory=list[str])

    def output(self, track: AudioTrack) -> list[str]:
        return ["-map", f"0:{track.index}", "-vn", "-sn", "-dn", "-t", str(self.longest + 1)]

    def companions(self) -> list[str]:
        """Returns a second output that discards all tracks, where ffmpeg would else begin with the chosen one."""
        if not self.media.container & RESTARTING or (len(self.media.sounds) == 1 and not self.media.video):
            return []
        return ["-map", "0:v?", "-map", "0:a?", "-c", "copy", "-t", str(self.longest + 1), "-f", "null", "-"]


async def decode_audio(
    path: Path, ffmpeg: FFmpeg, source: SoundSource | None = None, *, max_duration_s: float = MAX_DURATION_S
) -> Sound:
    """Decodes an audio track of `path`: the one `source` asks for, else the first that can be heard.

    Times stay the file's own: silence fills a late start and gaps. A damaged file gives what can be heard. Raises
    InputMissing, InputEmpty, MediaUnreadable, NoAudio, InputTooLarge, ResourceExhausted or TaskTimedOut.
    """
    source = source or SoundSource()
    await asyncio.to_thread(_check_file, path)
    recording = await _examined(path, ffmpeg, source.pcm, max_duration_s)
    recording.media.require_audio()
    order = tracks_in_order(recording.media.sounds, source.track, path.name)
    silent: list[int] = []
    for number, track in order:
        sound = await _decoded(recording, ffmpeg, number, recording.media.checked(track))
        if not sound.silent or len(order) == 1:
            break
        silent.append(number)
    else:
        number, track = order[0]
        sound = await _decoded(recording, ffmpeg, number, track)
    skipped = [f"Audio track {n} is silent: track {number} was taken." for n in silent if not sound.silent]
    warnings = (*recording.notes, *skipped, *sound.warnings)
    return Sound(sound.pcm, warnings, number, len(recording.media.sounds), sound.peak)


async def _examined(path: Path, ffmpeg: FFmpeg, pcm: RawPcm | None, longest: float) -> _Recording:
    notes: list[str] = []
    if pcm and (await asyncio.to_thread(_head, path)).startswith(_CONTAINERS):
        notes.append("The file is no raw PCM: it has a header, by which it was read.")
        pcm = None
    if pcm:
        shape = ("-f", pcm.format, "-ar", str(pcm.rate), "-ac", str(pcm.channels))
        source = untrusted_input(path, *shape, demuxers=f"{DEMUXERS},{pcm.format}")
    else:
        length = await asyncio.to_thread(wave_length, path)
        options = ("-ignore_length", "1") if length and not length.believed else ()
        source = untrusted_input(path, *options, "-guess_layout_max", "0")
    media = await probe_media(ffmpeg, path, source)
    if not media.estimated:
        _check_longest(media.duration, path.name, longest)
    return _Recording(path, media, tuple(source), longest, notes)


async def _decoded(recording: _Recording, ffmpeg: FFmpeg, number: int, track: AudioTrack) -> Sound:
    """Decodes one track by way of a file beside the recording, which is gone when this returns."""
    path, name = recording.path, recording.path.name
    raw = path.with_name(f"{name}.pcm")
    complaints = Complaints()
    # Resampled first: the silence of a gap is held in memory whole. Without tags: they stand before the samples.
    timed = f"aresample={SAMPLE_RATE}:osf=s16,aresample=async=1:first_pts=0"
    coded = ("-ar", str(SAMPLE_RATE), "-c:a", "pcm_s16le", "-map_metadata", "-1", "-f", "wav")
    filters = ("-af", timed, *coded)
    arguments = [*recording.source, *recording.output(track), *filters, "pipe:1", *recording.companions()]
    try:
        with raw.open("wb") as file:
            writer = _PcmWriter(file, name, recording.longest)
            ended = await ffmpeg.read_bytes(arguments, on_bytes=writer, on_stderr=complaints)
            writer.finish()
        if not writer.written or limit_error(ended.code, 0, name, silent=not error_line(ended.stderr)):
            raise _failure(ended.code, ended.stderr, name)
        pcm = await asyncio.to_thread(np.memmap, raw, np.int16, "r")
    finally:
        raw.unlink(missing_ok=True)
    warnings = await _warnings(recording, ffmpeg, track, complaints, len(pcm) / SAMPLE_RATE, ended.code)
    return Sound(pcm, warnings, number, peak=writer.peak)


async def _warnings(
    recording: _Recording, ffmpeg: FFmpeg, track: AudioTrack, complaints: Complaints, heard: float, code: int
) -> tuple[str, ...]:
    media = recording.media
    # A film may go on after its sound, and one track after another: then its length promises nothing of this one.
    alone = len(media.sounds) == 1 and not media.video and not media.estimated
    promise = await asyncio.to_thread(promise_of, recording.path, media.duration if alone else 0.0, media.container)
    complaints.cut = complaints.cut or code != 0
    told = [cut_at(heard, promise, complaints)]
    if complaints.any and not promise.open_end:
        output = [*recording.companions(), *recording.output(track)]
        places = await damaged_places(ffmpeg, recording.source, output, heard, cut=complaints.cut)
        told.append(damage_warning(places))
    return tuple(text for text in told if text)


class _PcmWriter:
    """Takes ffmpeg's WAVE stream, mixes its channels, and writes the samples to a file."""

    def __init__(self, file: BinaryIO, name: str, longest: float) -> None:
        self._file = file
        self._name = name
        self._longest = longest
        self._rest = b""
        self._mixer: Mixer | None = None
        self._channels = 0
        self.written = 0
        """Samples."""

    @property
    def peak(self) -> int:
        return self._mixer.peak if self._mixer else 0

    def __call__(self, chunk: bytes) -> None:
        """Raises InputTooLarge once the sound is too long."""
        data = self._rest + chunk
        if self._mixer is None:
            header = wave_header(data)
            if header is None:
                self._rest = data[:HEADER_BYTES]
                return
            self._mixer, self._channels = Mixer(header.channels, header.speakers), header.channels
            data = data[header.start :]
        whole = len(data) - len(data) % (2 * self._channels)
        self._rest = data[whole:]
        frames = np.frombuffer(data, np.int16, whole // 2).reshape(-1, self._channels)
        self._write(self._mixer.feed(frames))

    def finish(self) -> None:
        if self._mixer:
            self._write(self._mixer.finish())

    def _write(self, samples: Pcm) -> None:
        try:
            self._file.write(samples.tobytes())
        except OSError as e:
            raise EncodeFailed(
                f"The decoded sound cannot be written: {e.strerror or e}.",
                hint="Give the worker more disk.",
                where=self._name,
                retryable=True,
            ) from e
        self.written += len(samples)
        _check_longest(self.written / SAMPLE_RATE, self._name, self._longest)


def to_samples(pcm: Pcm) -> Samples:
    return pcm.astype(np.float32) / np.float32(32768)


def _failure(code: int, stderr: Sequence[str], name: str) -> Exception:
    """Returns the error of a run that gave no sound."""
    if code == 0:
        return MediaUnreadable(f"{name} holds no sound.", hint="Check that the file plays.", where=name)
    error = limit_error(code, 0, name, silent=not error_line(stderr)) or ffmpeg_failure(
        stderr, name=name, doing="decoding"
    )
    if isinstance(error, EncodeFailed):
        return MediaUnreadable(error.info.message, hint=error.info.hint, where=name, retryable=error.retryable)
    return error


def _check_file(path: Path) -> None:
    if not path.is_file():
        raise InputMissing(
            f"{path.name} is not there.", hint="Check that the manifest names it correctly.", where=path.name
        )
    if path.stat().st_size == 0:
        raise InputEmpty(f"{path.name} is empty.", hint="Upload it again.", where=path.name)


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(16)


def _check_longest(seconds: float, name: str, longest: float) -> None:
    if seconds > longest:
        raise InputTooLarge(
            f"{name} is longer than {longest / 3600:g} hours.", hint="Cut it into shorter pieces.", where=name
        )
