"""The dialects by the names that the configuration gives them."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from gpu_dispatch.runpod.dialects.base import Dialect
from gpu_dispatch.runpod.dialects.faster_whisper import FasterWhisper
from gpu_dispatch.runpod.dialects.ours import Gpudrop
from gpu_dispatch.runpod.dialects.whisper_hub import WhisperHub

DIALECTS: Mapping[str, Dialect] = MappingProxyType(
    {dialect.name: dialect for dialect in (Gpudrop(), WhisperHub(), FasterWhisper())}
)
