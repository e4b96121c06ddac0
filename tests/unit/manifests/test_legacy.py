"""Every body the old API and the old workers took, as the manifest it stands for."""

from __future__ import annotations

import json
from typing import Any

import pytest

from manifests.errors import ManifestError
from manifests.legacy import upgrade_fields
from manifests.models import AddAudio, Caption, Image, Img2Vid, Manifest, Transcribe
from manifests.reader import read_manifest

MP3 = "https://example.com/a.mp3"


def manifest(body: Any) -> Manifest:
    return read_manifest(json.dumps(body).encode(), "x.job.json")


BODIES: list[tuple[dict[str, Any], Manifest]] = [
    (
        {"url_video": "https://e.com/v.mp4", "url_srt": "https://e.com/s.srt", "path": "P N/V T/videos/",
         "output_filename": "video_legendado.mp4"},
        Caption(video="https://e.com/v.mp4", srt="https://e.com/s.srt", path="/P N/V T/videos/",
                output_filename="video_legendado.mp4"),
    ),
    ({"url_video": "v", "url_srt": "s"}, Caption(video="v", srt="s")),
    (
        {"images": [{"id": "img-1", "image_url": "https://e.com/1.jpg", "duracao": 6.48},
                    {"id": 2, "image_url": "https://e.com/2.jpg", "duracao": "5,0"}], "path": "P/V/videos/temp/"},
        Img2Vid(images=(Image(image="https://e.com/1.jpg", duration=6.48, id="img-1"),
                        Image(image="https://e.com/2.jpg", duration=5.0, id="2")), path="/P/V/videos/temp/"),
    ),
    (
        {"url_image": "https://e.com/1.jpg", "frame_rate": 30, "duration": 5.0},
        Img2Vid(images=(Image(image="https://e.com/1.jpg", duration=5.0),), fps=30),
    ),
    (
        {"url_video": "v", "url_audio": "a", "path": "/P/videos/", "output_filename": "out"},
        AddAudio(video="v", audio="a", path="/P/videos/", output_filename="out.mp4"),
    ),
    (
        {"audio_url": MP3, "path": "GOD'S PLAN | Inspiration/transcriptions/", "model": "turbo", "language": "pt"},
        Transcribe(audio=MP3, path="/GOD'S PLAN | Inspiration/transcriptions/", model="turbo", language="pt"),
    ),
    ({"audio_url": MP3, "path": ""}, Transcribe(audio=MP3, path="/")),
    (
        {"input": {"audio": MP3, "model": "base", "language": None, "temperature": 0.0, "beam_size": 10,
                   "word_timestamps": False}},
        Transcribe(audio=MP3, temperature=(0.0,), beam_size=10, word_timestamps=False),
    ),
    (
        {"input": {"operation": "caption", "url_video": "v", "url_srt": "s", "path": "P/"},
         "webhook": "https://n8n.example/x", "policy": {"ttl": 1}},
        Caption(video="v", srt="s", path="/P/", callback_url="https://n8n.example/x"),
    ),
    (
        {"input": {"audio": MP3, "callback_url": "https://mine.example"}, "webhook": "https://other.example"},
        Transcribe(audio=MP3, callback_url="https://mine.example"),
    ),
]  # fmt: skip


@pytest.mark.parametrize(("body", "expected"), BODIES)
def test_bodies(body: dict[str, Any], expected: Manifest) -> None:
    assert manifest(body) == expected


@pytest.mark.parametrize("wrapped", [False, True])
@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"model": "large-v3"}, {"model": "large-v3"}),
        ({"transcription": "plain_text"}, {"formats": ("txt", "json")}),
        ({"transcription": "formatted_text"}, {"formats": ("txt", "json")}),
        ({"transcription": "srt"}, {"formats": ("srt", "json")}),
        ({"transcription": "vtt"}, {"formats": ("vtt", "json")}),
        ({"transcription": None}, {}),
        ({"transcription": "srt", "formats": ["lrc"]}, {"formats": ("lrc",)}),
        ({"translate": True, "translation": "vtt"}, {"translate": True, "formats": ("vtt", "json")}),
        ({"translate": True, "transcription": "srt", "translation": "vtt"},
         {"translate": True, "formats": ("srt", "vtt", "json")}),
        ({"translate": False, "translation": "vtt"}, {}),
        ({"language": "en"}, {"language": "en"}),
        ({"temperature": 0.4}, {"temperature": (0.4,)}),
        ({"temperature": 0, "temperature_increment_on_fallback": 0.2}, {"temperature": (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)}),
        ({"temperature_increment_on_fallback": "0.5"}, {"temperature": (0.0, 0.5, 1.0)}),
        ({"temperature": 0.3, "temperature_increment_on_fallback": 0.5}, {"temperature": (0.3, 0.8)}),
        ({"temperature": 0.3, "temperature_increment_on_fallback": None}, {"temperature": (0.3,)}),
        ({"temperature": 0.3, "temperature_increment_on_fallback": 0}, {"temperature": (0.3,)}),
        ({"best_of": 3}, {"best_of": 3}),
        ({"best_of": None}, {}),
        ({"beam_size": 1}, {"beam_size": 1}),
        ({"patience": 2.0}, {"patience": 2.0}),
        ({"length_penalty": 1.0}, {"length_penalty": 1.0}),
        ({"suppress_tokens": "-1"}, {"suppress_tokens": (-1,)}),
        ({"suppress_tokens": "1, 2"}, {"suppress_tokens": (1, 2)}),
        ({"suppress_tokens": ""}, {"suppress_tokens": ()}),
        ({"suppress_tokens": [3]}, {"suppress_tokens": (3,)}),
        ({"initial_prompt": "Names: João"}, {"initial_prompt": "Names: João"}),
        ({"condition_on_previous_text": True}, {"condition_on_previous_text": True}),
        ({"compression_ratio_threshold": 3.0}, {"compression_ratio_threshold": 3.0}),
        ({"logprob_threshold": -2}, {"logprob_threshold": -2.0}),
        ({"no_speech_threshold": 0.5}, {"no_speech_threshold": 0.5}),
        ({"enable_vad": False}, {"vad": False}),
        ({"word_timestamps": True}, {"word_timestamps": True}),
    ],
)  # fmt: skip
def test_fields_of_the_whisper_workers(given: dict[str, Any], expected: dict[str, Any], wrapped: bool) -> None:
    body = {"audio": MP3, **given}
    assert manifest({"input": body} if wrapped else body) == Transcribe(audio=MP3, **expected)


@pytest.mark.parametrize("data", ["UklG\nRg==", "data:audio/wav;base64,UklGRg=="])
def test_audio_in_the_body(data: str) -> None:
    result = manifest({"input": {"audio_base64": data}})
    assert isinstance(result, Transcribe)
    assert result.audio.startswith("data:")
    assert result.audio.endswith(";base64,UklGRg==")


@pytest.mark.parametrize(
    "body",
    [
        {
            "audio": "a.mp3",
            "path": "out/",
            "formats": ["srt"],
            "temperature": [0, 0.5],
            "metadata": {"input": {"x": 1}},
        },
        {"images": [{"image": "a.jpg", "duration": 1}], "path": "out/"},
        {"operation": "mine", "input": {"audio_url": "x"}, "path": "out/"},
        {"images": ["odd", None, 3], "path": None},
    ],
)
def test_manifests_of_today_pass_unchanged(body: dict[str, Any]) -> None:
    assert upgrade_fields(body) == body


@pytest.mark.parametrize("body", [body for body, _ in BODIES])
def test_nothing_given_is_changed_in_place_and_twice_is_once(body: dict[str, Any]) -> None:
    before = json.dumps(body)
    once = upgrade_fields(body)
    assert json.dumps(body) == before
    assert upgrade_fields(once) == once


@pytest.mark.parametrize(
    ("body", "code", "where"),
    [
        ({"audio": "a", "audio_url": "b"}, "manifest_invalid", "audio_url"),
        ({"images": [{"image": "a", "image_url": "b", "duration": 1}]}, "manifest_invalid", "image_url"),
        ({"url_image": "a", "images": []}, "manifest_invalid", "url_image"),
        ({"audio": "a", "transcription": "pdf"}, "manifest_invalid", "transcription"),
        ({"audio": "a", "temperature_increment_on_fallback": "x"}, "manifest_invalid",
         "temperature_increment_on_fallback"),
        ({"audio": "a", "temperature_increment_on_fallback": 0.001}, "manifest_invalid", "temperature"),
        ({"images": [{"image_url": "a", "duracao": 0}]}, "invalid_duration", "images[0].duration"),
        ({"input": {}}, "missing_field", ""),
        ({"input": [1]}, "missing_field", ""),
    ],
)  # fmt: skip
def test_bodies_refused(body: dict[str, Any], code: str, where: str) -> None:
    with pytest.raises(ManifestError) as caught:
        manifest(body)
    assert (caught.value.info.code, caught.value.info.where) == (code, where)
