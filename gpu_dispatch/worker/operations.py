"""Composes the worker's operations; their libraries are imported with the first task that needs them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from gpu_dispatch.task import AddAudioParams, CaptionParams, Img2VidParams, Payload, TaskParams, TranscribeParams
from gpu_dispatch.worker.context import JobContext, Operation
from gpu_dispatch.worker.video.ffmpeg import FFmpeg, find_ffmpeg

if TYPE_CHECKING:
    from gpu_dispatch.worker.speech.transcribe import Transcriber
    from gpu_dispatch.worker.video.encoder import Encoder, EncoderChoice


@dataclass(frozen=True, slots=True)
class OperationSettings:
    """Paths, models and devices that the operations use."""

    work_root: Path
    """Holds the jobs' private folders."""
    file_root: Path | None = None
    """Local files that a task names must lie below it; None: a task may name none."""
    model_dir: Path | None = None
    models: Mapping[str, Path] = field(default_factory=dict[str, Path])
    """A model's name to its folder or checkpoint; comes before `model_dir`."""
    allow_download: bool = True
    device: Literal["auto", "cpu", "cuda"] = "auto"
    ffmpeg: str | None = None
    """A path or command; None: the one found."""


class Operations:
    """The operation for every kind of parameters; loaded models stay loaded for the next task."""

    def __init__(self, settings: OperationSettings) -> None:
        self._settings = settings
        self._speech: Transcriber | None = None

    async def __call__(self, params: TaskParams, job: JobContext) -> Payload:
        match params:
            case TranscribeParams():
                return await self._transcribe(params, job)
            case CaptionParams():
                return await self._caption(params, job)
            case Img2VidParams():
                return await self._img2vid(params, job)
            case AddAudioParams():
                return await self._addaudio(params, job)

    async def encoder(self) -> EncoderChoice:
        """Returns the encoder of this machine, which is probed at the first call."""
        return await self._encoder.choose()

    async def idle(self) -> None:
        """Returns when nothing of an earlier job runs: a thread that recognises speech cannot be killed."""
        if self._speech is not None:
            await self._speech.idle()

    @cached_property
    def _ffmpeg(self) -> FFmpeg:
        return FFmpeg(find_ffmpeg(self._settings.ffmpeg))

    @cached_property
    def _encoder(self) -> Encoder:
        from gpu_dispatch.worker.video.encoder import Encoder

        return Encoder(self._ffmpeg)

    @cached_property
    def _transcribe(self) -> Operation[TranscribeParams]:
        from gpu_dispatch.worker.speech.models import ModelStore
        from gpu_dispatch.worker.speech.transcribe import Transcriber

        settings = self._settings
        store = ModelStore(settings.model_dir, extra=settings.models, allow_download=settings.allow_download)
        self._speech = Transcriber(store, self._ffmpeg, device=settings.device)
        return self._speech

    @cached_property
    def _caption(self) -> Operation[CaptionParams]:
        from gpu_dispatch.worker.video.caption import BurnOrMux

        return BurnOrMux(self._ffmpeg, self._encoder)

    @cached_property
    def _img2vid(self) -> Operation[Img2VidParams]:
        from gpu_dispatch.worker.video.img2vid import ImagesToVideo

        return ImagesToVideo(self._ffmpeg, self._encoder)

    @cached_property
    def _addaudio(self) -> Operation[AddAudioParams]:
        from gpu_dispatch.worker.video.addaudio import ReplaceAudio

        return ReplaceAudio(self._ffmpeg, self._encoder)
