"""Workers of others as they answer: the shapes of whisper-hub and worker-faster_whisper on the real SDK.

What they are asked is checked by the SDK's own validator against their own inputs, as they do; an unknown or odd one
fails the job with a list of errors. `audio` must be an address; the words are always the same.
"""

import os
from importlib import import_module
from typing import Any

from gpu_dispatch.worker.sdk import load_sdk

serverless = load_sdk()
validate = import_module("runpod.serverless.utils.rp_validator").validate

WORDS = [
    {"word": " And", "start": 0.0, "end": 0.44},
    {"word": " so,", "start": 0.44, "end": 0.84},
    {"word": " ask", "start": 3.28, "end": 3.78},
    {"word": " not.", "start": 3.78, "end": 4.28},
]
TEXTS = [(0.0, 2.6, " And so,"), (3.28, 4.5, " ask not.")]
LANGUAGE = "en"


def optional(kind: type, default: Any) -> dict[str, Any]:
    return {"type": kind, "required": False, "default": default}


HUB = {
    "audio": {"type": str, "required": True},
    "model": optional(str, "base"),
    "language": optional(str, None),
    "temperature": optional(float, 0.0),
    "beam_size": optional(int, 5),
    "word_timestamps": optional(bool, False),
}

FASTER = {
    "audio": optional(str, None),
    "audio_base64": optional(str, None),
    "model": optional(str, "base"),
    "transcription": optional(str, "plain_text"),
    "translate": optional(bool, False),
    "translation": optional(str, "plain_text"),
    "language": optional(str, None),
    "temperature": optional(float, 0),
    "best_of": optional(int, 5),
    "beam_size": optional(int, 5),
    "patience": optional(float, 1.0),
    "length_penalty": optional(float, 0),
    "suppress_tokens": optional(str, "-1"),
    "initial_prompt": optional(str, None),
    "condition_on_previous_text": optional(bool, True),
    "temperature_increment_on_fallback": optional(float, 0.2),
    "compression_ratio_threshold": optional(float, 2.4),
    "logprob_threshold": optional(float, -1.0),
    "no_speech_threshold": optional(float, 0.6),
    "enable_vad": optional(bool, False),
    "word_timestamps": optional(bool, False),
}


def answer(asked: dict[str, Any], word_timestamps: Any) -> dict[str, Any]:
    """What both have in common; `word_timestamps` is there when they were asked for, unless it is None."""
    segments = [
        {
            "id": number,
            "seek": 0,
            "start": start,
            "end": end,
            "text": text,
            "tokens": [50364, 400 + number],
            "temperature": asked["temperature"],
            "avg_logprob": -0.24,
            "compression_ratio": 0.9,
            "no_speech_prob": 0.01,
        }
        for number, (start, end, text) in enumerate(TEXTS)
    ]
    found = {
        "segments": segments,
        "detected_language": asked["language"] or LANGUAGE,
        "transcription": " ".join(text.strip() for _, _, text in TEXTS),
        "device": "cuda",
        "model": asked["model"],
    }
    return found if word_timestamps is None else found | {"word_timestamps": word_timestamps}


def whisper_hub(job: dict[str, Any]) -> dict[str, Any]:
    checked = validate(job["input"], HUB)
    if "errors" in checked:
        return {"error": checked["errors"]}
    asked: dict[str, Any] = checked["validated_input"]  # pyright: ignore[reportAssignmentType]
    if not asked["audio"].startswith(("http://", "https://")):
        return {"error": f"Failed to download {asked['audio']}"}
    stripped = [word | {"word": word["word"].strip()} for word in WORDS]
    return answer(asked, stripped if asked["word_timestamps"] else None)


def faster_whisper(job: dict[str, Any]) -> dict[str, Any]:
    checked = validate(job["input"], FASTER)
    if "errors" in checked:
        return {"error": checked["errors"]}
    asked: dict[str, Any] = checked["validated_input"]  # pyright: ignore[reportAssignmentType]
    if not asked["audio"] and not asked["audio_base64"]:
        return {"error": "Must provide either audio or audio_base64"}
    found = answer(asked, WORDS if asked["word_timestamps"] else None)
    return found | {"translation": found["transcription"] if asked["translate"] else None}


HANDLERS = {"whisper-hub": whisper_hub, "worker-faster_whisper": faster_whisper}

if __name__ == "__main__":
    serverless.start({"handler": HANDLERS[os.environ["EMULATED_WORKER"]]})
