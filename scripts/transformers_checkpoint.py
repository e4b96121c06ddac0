"""Writes a CTranslate2 Whisper model (float16 or float32) as a folder that transformers loads.

    python scripts/transformers_checkpoint.py FOLDER TARGET

Lets tests run all engines on the same weights. Needs torch, transformers and numpy.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
from pathlib import Path
from typing import Any

import openai_checkpoint
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer
from transformers import GenerationConfig, WhisperConfig, WhisperFeatureExtractor

RENAMED = (
    (".blocks.", ".layers."),
    (".cross_attn_ln.", ".encoder_attn_layer_norm."),
    (".attn_ln.", ".self_attn_layer_norm."),
    (".mlp_ln.", ".final_layer_norm."),
    (".cross_attn.", ".encoder_attn."),
    (".attn.", ".self_attn."),
    (".query.", ".q_proj."),
    (".key.", ".k_proj."),
    (".value.", ".v_proj."),
    (".out.", ".out_proj."),
    (".mlp.0.", ".fc1."),
    (".mlp.2.", ".fc2."),
    (".token_embedding.", ".embed_tokens."),
    (".positional_embedding", ".embed_positions.weight"),
    ("encoder.ln_post.", "encoder.layer_norm."),
    ("decoder.ln.", "decoder.layer_norm."),
)
"""Parts of openai-whisper's names of weights, and what transformers calls them; applied in order."""


def renamed(name: str) -> str:
    for old, new in RENAMED:
        name = name.replace(old, new)
    return f"model.{name}"


def configuration(dims: dict[str, int], token: Any) -> WhisperConfig:
    return WhisperConfig(
        architectures=["WhisperForConditionalGeneration"],
        vocab_size=dims["n_vocab"],
        num_mel_bins=dims["n_mels"],
        d_model=dims["n_audio_state"],
        encoder_layers=dims["n_audio_layer"],
        encoder_attention_heads=dims["n_audio_head"],
        encoder_ffn_dim=4 * dims["n_audio_state"],
        decoder_layers=dims["n_text_layer"],
        decoder_attention_heads=dims["n_text_head"],
        decoder_ffn_dim=4 * dims["n_text_state"],
        max_source_positions=dims["n_audio_ctx"],
        max_target_positions=dims["n_text_ctx"],
        bos_token_id=token("<|endoftext|>"),
        eos_token_id=token("<|endoftext|>"),
        pad_token_id=token("<|endoftext|>"),
        decoder_start_token_id=token("<|startoftranscript|>"),
    )


def generation(given: dict[str, Any], dims: dict[str, int], token: Any, languages: dict[str, int]) -> GenerationConfig:
    """`given` is CTranslate2's config.json, which holds the alignment heads."""
    several = {}
    if languages:
        several = {
            "lang_to_id": languages,
            "task_to_id": {task: token(f"<|{task}|>") for task in ("transcribe", "translate")},
        }
    return GenerationConfig(
        alignment_heads=given["alignment_heads"],
        begin_suppress_tokens=given["suppress_ids_begin"],
        suppress_tokens=given["suppress_ids"],
        bos_token_id=token("<|endoftext|>"),
        eos_token_id=token("<|endoftext|>"),
        pad_token_id=token("<|endoftext|>"),
        decoder_start_token_id=token("<|startoftranscript|>"),
        is_multilingual=bool(languages),
        max_initial_timestamp_index=50,
        max_length=dims["n_text_ctx"],
        no_timestamps_token_id=token("<|notimestamps|>"),
        prev_sot_token_id=token("<|startofprev|>"),
        return_timestamps=False,
        **several,
    )


def write(folder: Path, target: Path) -> None:
    """Reads the model in `folder`, writes the folder `target` all at once."""
    tensors = openai_checkpoint.read_tensors(folder / "model.bin")
    state, dims = openai_checkpoint.state_of(tensors)
    given = json.loads((folder / "config.json").read_text())
    vocabulary = Tokenizer.from_file(str(folder / "tokenizer.json"))
    several = dims["n_vocab"] > 51864
    codes = (vocabulary.id_to_token(number) for number in given["lang_ids"]) if several else ()
    languages = {code: vocabulary.token_to_id(code) for code in codes if code}
    partial = target.with_name(f".{target.name}.{os.getpid()}")
    partial.mkdir()
    try:
        configuration(dims, vocabulary.token_to_id).save_pretrained(partial)
        generation(given, dims, vocabulary.token_to_id, languages).save_pretrained(partial)
        WhisperFeatureExtractor(feature_size=dims["n_mels"]).save_pretrained(partial)
        weights = {renamed(name): weight.to(torch.float16).contiguous() for name, weight in state.items()}
        save_file(weights, partial / "model.safetensors", metadata={"format": "pt"})
        shutil.copy(folder / "tokenizer.json", partial)
        partial.rename(target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("target", type=Path)
    arguments = parser.parse_args()
    write(arguments.folder, arguments.target)
