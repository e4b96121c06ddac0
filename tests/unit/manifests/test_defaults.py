"""Folder defaults, and manifests made from a trigger's template."""

from __future__ import annotations

from typing import Any

import pytest

from manifests.defaults import Defaults, defaults_from, read_defaults
from manifests.errors import ManifestError
from manifests.models import AddAudio, Caption, Img2Vid, Transcribe
from manifests.reader import from_template, read_manifest

SOURCE = "config.yaml: triggers.audio"


def defaults(text: str, key: str = "_gpudrop.yaml") -> Defaults:
    return read_defaults(text.encode(), key)


def transcribe(manifest: str, *documents: Defaults) -> Transcribe:
    result = read_manifest(manifest.encode(), "a/b/talk.job.yaml", defaults=documents)
    assert isinstance(result, Transcribe)
    return result


def test_manifest_over_nearest_over_section_over_farther() -> None:
    root = defaults("language: pt\nmodel: tiny\nbeam_size: 2\ntranscribe: {model: small, best_of: 3}\nfps: 30\n")
    near = defaults("beam_size: 3\nmodel: medium\ntranscribe: {path: out/}\ncaption: {style: box}", "a/_gpudrop.yaml")
    result = transcribe("audio: x\nbeam_size: 4", root, near)
    assert (result.language, result.model, result.beam_size, result.best_of, result.path) == (
        "pt", "medium", 4, 3, "out/",
    )  # fmt: skip


def test_null_in_a_manifest_undoes_a_default_where_null_is_a_value() -> None:
    result = transcribe("audio: x\nlanguage: null\nmodel: null", defaults("language: pt\nmodel: turbo"))
    assert (result.language, result.model) == (None, "turbo")


def test_media_of_defaults_do_not_tell_the_operation() -> None:
    result = read_manifest(b"a.jpg;2\n", "a/x.job.csv", defaults=[defaults("audio: /music.mp3\nfps: 30")])
    assert isinstance(result, Img2Vid)
    assert result.fps == 30


@pytest.mark.parametrize("text", ["", "# nothing yet\n", "transcribe:\n"])
def test_empty_defaults(text: str) -> None:
    assert transcribe("audio: x", defaults(text)) == Transcribe(audio="x")


@pytest.mark.parametrize(
    ("text", "code", "where", "says"),
    [
        ("modle: turbo", "unknown_field", "a/_gpudrop.yaml: modle", "did you mean 'model'?"),
        ("transcrib: {model: turbo}", "unknown_field", "a/_gpudrop.yaml: transcrib", "did you mean 'transcribe'?"),
        ("transcribe: {fps: 30}", "unknown_field", "a/_gpudrop.yaml: transcribe: fps", "no field of transcribe"),
        ("render: {fps: 30}", "unknown_field", "a/_gpudrop.yaml: render", "no field of any operation"),
        ("operation: caption", "unknown_field", "a/_gpudrop.yaml: operation", "cannot be a default"),
        ("transcribe: {operation: caption}", "unknown_field", "a/_gpudrop.yaml: transcribe: operation", "default"),
        ("path: ../x", "invalid_path", "a/_gpudrop.yaml: path", "'..'"),
        ("img2vid: {path: a/../../x}", "invalid_path", "a/_gpudrop.yaml: path", "'..'"),
        ("a: b: c", "manifest_syntax", "a/_gpudrop.yaml, line 1, column 5", "YAML"),
        ("- model", "manifest_invalid", "a/_gpudrop.yaml", "named fields"),
        ("a: &x 1", "manifest_aliases", "a/_gpudrop.yaml, line 1, column 4", "anchors"),
    ],
)
def test_defaults_refused_by_their_own_name(text: str, code: str, where: str, says: str) -> None:
    with pytest.raises(ManifestError) as caught:
        defaults(text, "a/_gpudrop.yaml")
    assert (caught.value.info.code, caught.value.info.where) == (code, where)
    assert says in caught.value.info.message


def test_a_bad_value_is_blamed_on_the_defaults_it_came_from() -> None:
    with pytest.raises(ManifestError) as caught:
        transcribe("audio: x", defaults("beam_size: 3"), defaults("beam_size: 99", "a/_gpudrop.yaml"))
    assert caught.value.info.where == "a/_gpudrop.yaml: beam_size"
    assert "In a/_gpudrop.yaml: beam_size must be at most 32 (it is 99)." in caught.value.info.message
    assert transcribe("audio: x\nbeam_size: 4", defaults("beam_size: 99")).beam_size == 4


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ({"operation": "transcribe", "model": "turbo", "path": "../out/"},
         Transcribe(audio="./a {b}.mp3", model="turbo", path="../out/", language="pt")),
        ({"operation": "caption", "srt": "{stem}.srt"},
         Caption(video="./a {b}.mp3", srt="a {b}.srt", language="pt")),
        ({"video": "/intro.mp4", "audio": "{file}"}, AddAudio(video="/intro.mp4", audio="./a {b}.mp3")),
        ({"operation": "transcribe", "path": "{file}.out/", "metadata": {"of": "{file}"}},
         Transcribe(audio="./a {b}.mp3", path="a {b}.mp3.out/", metadata={"of": "a {b}.mp3"}, language="pt")),
        ({"operation": "transcribe", "path": "{file}", "initial_prompt": "Episode {file}"},
         Transcribe(audio="./a {b}.mp3", path="a {b}.mp3", initial_prompt="Episode a {b}.mp3", language="pt")),
        ({"operation": "addaudio", "video": "/intro.mp4"}, AddAudio(video="/intro.mp4", audio="./a {b}.mp3")),
        ({"images": [{"image": "{file}", "duration": 5}], "path": "{stem}/"},
         Img2Vid.model_validate({"images": [{"image": "./a {b}.mp3", "duration": 5}], "path": "a {b}/"})),
    ],
)  # fmt: skip
def test_templates(template: dict[str, Any], expected: object) -> None:
    config = defaults_from({"language": "pt"}, source="config.yaml: defaults")
    before = repr(template)
    assert from_template(template, key="x/a {b}.mp3", source=SOURCE, defaults=[config]) == expected
    assert repr(template) == before


@pytest.mark.parametrize(
    ("template", "code", "where"),
    [
        ({}, "missing_field", f"{SOURCE}: operation"),
        ({"operation": "transcibe"}, "unknown_operation", f"{SOURCE}: operation"),
        ({"operation": "transcribe", "modle": "x"}, "unknown_field", f"{SOURCE}: modle"),
        ({"operation": "transcribe", "model": "ü"}, "manifest_invalid", f"{SOURCE}: model"),
        ({"operation": "transcribe", "audio": "x.mp3"}, "missing_field", SOURCE),
        ({"operation": "img2vid", "images": [{"duration": 5}]}, "missing_field", SOURCE),
        ({"operation": "img2vid"}, "missing_field", SOURCE),
        ({"operation": "caption"}, "missing_field", f"{SOURCE}: srt"),
        ({"operation": "transcribe", "path": "{file}.out/", "srt": "{file}"}, "unknown_field", f"{SOURCE}: srt"),
    ],
)
def test_templates_refused_by_their_own_name(template: dict[str, Any], code: str, where: str) -> None:
    with pytest.raises(ManifestError) as caught:
        from_template(template, key="x/a.mp3", source=SOURCE)
    assert (caught.value.info.code, caught.value.info.where) == (code, where)
