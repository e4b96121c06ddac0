"""Writes a CTranslate2 Whisper model (float16 or float32) as a checkpoint that openai-whisper loads.

    python scripts/openai_checkpoint.py FOLDER TARGET.pt

Lets tests run both engines on the same weights. Needs torch and numpy.
"""

from __future__ import annotations

import argparse
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

DTYPES = {0: np.float32, 1: np.int8, 2: np.int16, 3: np.int32, 4: np.float16}
"""Numbers of CTranslate2's `DataType`; bfloat16 (5) has no NumPy counterpart."""

Tensors = dict[str, np.ndarray[Any, Any]]


class Reader:
    """Walks over CTranslate2's binary model format: little-endian, strings with a 16-bit length and a final NUL."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.offset = 0

    def number(self, kind: str) -> int:
        (value,) = struct.unpack_from("<" + kind, self._data, self.offset)
        self.offset += struct.calcsize("<" + kind)
        return value

    def text(self) -> str:
        size = self.number("H")
        value = self._data[self.offset : self.offset + size - 1].decode()
        self.offset += size
        return value

    def tensor(self) -> np.ndarray[Any, Any]:
        shape = [self.number("I") for _ in range(self.number("B"))]
        dtype, size = self.number("B"), self.number("I")
        if dtype not in DTYPES:
            raise ValueError(f"tensors of CTranslate2 data type {dtype} cannot be read")
        kind = np.dtype(DTYPES[dtype])
        value = np.frombuffer(self._data, kind, size // kind.itemsize, self.offset).reshape(shape)
        self.offset += size
        return value


def read_tensors(file: Path) -> Tensors:
    reader = Reader(file.read_bytes())
    version, spec, _revision = reader.number("I"), reader.text(), reader.number("I")
    if spec != "WhisperSpec":
        raise ValueError(f"{file} holds a {spec}, not a Whisper model")
    tensors = {reader.text(): reader.tensor() for _ in range(reader.number("I"))}
    if version >= 3:
        for _ in range(reader.number("I")):
            alias = reader.text()
            tensors[alias] = tensors[reader.text()]
    return tensors


@dataclass(slots=True)
class Converter:
    """Collects PyTorch's state in `state` from CTranslate2's `tensors`."""

    tensors: Tensors
    state: dict[str, torch.Tensor] = field(default_factory=dict)

    def take(self, source: str) -> torch.Tensor:
        return torch.from_numpy(np.array(self.tensors[source]))

    def linear(self, target: str, source: str) -> None:
        self.state[f"{target}.weight"] = self.take(f"{source}/weight")
        self.state[f"{target}.bias"] = self.take(f"{source}/bias")

    def norm(self, target: str, source: str) -> None:
        self.state[f"{target}.weight"] = self.take(f"{source}/gamma")
        self.state[f"{target}.bias"] = self.take(f"{source}/beta")

    def fused(self, targets: tuple[str, ...], source: str) -> None:
        """CTranslate2 keeps projections of one input in one matrix. Whisper's key projection has no bias."""
        weights = self.take(f"{source}/weight").chunk(len(targets))
        biases = self.take(f"{source}/bias").chunk(len(targets))
        for target, weight, bias in zip(targets, weights, biases, strict=True):
            self.state[f"{target}.weight"] = weight.clone()
            if not target.endswith(".key"):
                self.state[f"{target}.bias"] = bias.clone()

    def block(self, side: str, index: int) -> None:
        source, target = f"{side}/layer_{index}", f"{side}.blocks.{index}"
        self.norm(f"{target}.attn_ln", f"{source}/self_attention/layer_norm")
        own = tuple(f"{target}.attn.{part}" for part in ("query", "key", "value"))
        self.fused(own, f"{source}/self_attention/linear_0")
        self.linear(f"{target}.attn.out", f"{source}/self_attention/linear_1")
        if side == "decoder":
            self.norm(f"{target}.cross_attn_ln", f"{source}/attention/layer_norm")
            self.linear(f"{target}.cross_attn.query", f"{source}/attention/linear_0")
            crossed = tuple(f"{target}.cross_attn.{part}" for part in ("key", "value"))
            self.fused(crossed, f"{source}/attention/linear_1")
            self.linear(f"{target}.cross_attn.out", f"{source}/attention/linear_2")
        self.norm(f"{target}.mlp_ln", f"{source}/ffn/layer_norm")
        self.linear(f"{target}.mlp.0", f"{source}/ffn/linear_0")
        self.linear(f"{target}.mlp.2", f"{source}/ffn/linear_1")

    def rest(self) -> None:
        for name in ("conv1", "conv2"):
            self.linear(f"encoder.{name}", f"encoder/{name}")
        for side in ("encoder", "decoder"):
            self.state[f"{side}.positional_embedding"] = self.take(f"{side}/position_encodings/encodings")
        self.state["decoder.token_embedding.weight"] = self.take("decoder/embeddings/weight")
        self.norm("encoder.ln_post", "encoder/layer_norm")
        self.norm("decoder.ln", "decoder/layer_norm")


def layer_count(tensors: Tensors, side: str) -> int:
    return len(set(_layers(tensors, side)))


def _layers(tensors: Tensors, side: str) -> Iterator[str]:
    for name in tensors:
        owner, _, rest = name.partition("/")
        layer = rest.partition("/")[0]
        if owner == side and layer.removeprefix("layer_").isdigit():
            yield layer


def dimensions(state: dict[str, torch.Tensor], heads: int, layers: dict[str, int]) -> dict[str, int]:
    """whisper.model.ModelDimensions' fields."""
    width = state["encoder.conv1.bias"].numel()
    return {
        "n_mels": state["encoder.conv1.weight"].shape[1],
        "n_audio_ctx": state["encoder.positional_embedding"].shape[0],
        "n_audio_state": width,
        "n_audio_head": heads,
        "n_audio_layer": layers["encoder"],
        "n_vocab": state["decoder.token_embedding.weight"].shape[0],
        "n_text_ctx": state["decoder.positional_embedding"].shape[0],
        "n_text_state": width,
        "n_text_head": heads,
        "n_text_layer": layers["decoder"],
    }


def state_of(tensors: Tensors) -> tuple[dict[str, torch.Tensor], dict[str, int]]:
    """PyTorch's state under openai-whisper's names, and whisper.model.ModelDimensions' fields."""
    converter = Converter(tensors)
    layers = {side: layer_count(tensors, side) for side in ("encoder", "decoder")}
    for side, count in layers.items():
        for index in range(count):
            converter.block(side, index)
    converter.rest()
    return converter.state, dimensions(converter.state, int(tensors["encoder/num_heads"]), layers)


def write(folder: Path, target: Path) -> None:
    """Reads `folder`/model.bin, writes `target` all at once."""
    state, dims = state_of(read_tensors(folder / "model.bin"))
    partial = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        torch.save({"dims": dims, "model_state_dict": state}, partial)
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("target", type=Path)
    arguments = parser.parse_args()
    write(arguments.folder, arguments.target)
