"""What manifests may look like, and what is said about those that cannot be read."""

from __future__ import annotations

import codecs
import json
import re
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from manifests.errors import ManifestError
from manifests.models import MAX_IMAGES, MODELS, Caption, Image, Img2Vid, Manifest, Transcribe
from manifests.reader import read_manifest

SUFFIXES = (".job.json", ".job.yaml", ".job.yml", ".job.csv")


def from_json(fields: Any) -> Manifest:
    return read_manifest(json.dumps(fields).encode(), "a/talk.job.json")


def from_yaml(text: str) -> Manifest:
    return read_manifest(text.encode(), "a/talk.job.yaml")


def refusal(text: str | bytes, suffix: str = ".job.json") -> ManifestError:
    with pytest.raises(ManifestError) as caught:
        read_manifest(text if isinstance(text, bytes) else text.encode(), "a/talk" + suffix)
    return caught.value


@pytest.mark.parametrize(
    ("fields", "operation"),
    [
        ({"audio": "a.mp3"}, "transcribe"),
        ({"video": "v.mp4", "srt": "s.srt"}, "caption"),
        ({"images": [{"image": "i.jpg", "duration": 1}]}, "img2vid"),
        ({"video": "v.mp4", "audio": "a.mp3"}, "addaudio"),
        ({"audio": "a.mp3", "video": None, "images": None}, "transcribe"),
        ({"operation": "addaudio", "video": "v.mp4", "audio": "a.mp3"}, "addaudio"),
    ],
)
def test_the_media_tell_the_operation(fields: Any, operation: str) -> None:
    manifest = from_json(fields)
    assert manifest.model_dump()["operation"] == operation
    assert type(manifest) is MODELS[operation]
    assert type(manifest).model_validate(manifest.model_dump(mode="json")) == manifest


@pytest.mark.parametrize("more", [{"audio": "a.mp3"}, {"audio": "a.mp3", "srt": "s.srt"}, {"srt": "s.srt"}])
def test_images_and_more_are_told_what_there_is_instead(more: dict[str, str]) -> None:
    images: Any = {"images": [{"image": "i.jpg", "duration": 1}]}
    error = refusal(json.dumps({**images, **more}))
    assert (error.info.code, error.info.where) == ("unknown_operation", "operation")
    assert error.info.message == f"{' and '.join([*more, 'images'])} together do not tell the operation."
    assert "img2vid makes clips of images, addaudio then gives a video its sound" in error.info.hint
    named = refusal(json.dumps({**images, **more, "operation": "render"}))
    assert (named.info.code, named.info.where) == ("unknown_operation", "operation")
    assert named.info.hint == "The operations are transcribe, caption, img2vid, addaudio."


@pytest.mark.parametrize(
    ("text", "code", "where", "says"),
    [
        ("", "manifest_syntax", "a/talk.job.json", "is empty"),
        (" \n\t", "manifest_syntax", "a/talk.job.json", "is empty"),
        ('{"audio": "a",}', "manifest_syntax", "a/talk.job.json, line 1, column 15", "is not JSON"),
        ('{\n "audio": "a"\n "model": "b"}', "manifest_syntax", "a/talk.job.json, line 3, column 2", "is not JSON"),
        ('{"audio": "a", "audio": "b"}', "manifest_syntax", "a/talk.job.json", "'audio' twice"),
        ('{"audio": "a", "metadata": {"n": NaN}}', "manifest_syntax", "a/talk.job.json", "no finite number"),
        ('{"audio": "a", "metadata": {"n": -Infinity}}', "manifest_syntax", "a/talk.job.json", "no finite number"),
        ('{"audio": "a", "metadata": {"n": 1e999}}', "manifest_syntax", "a/talk.job.json", "no finite number"),
        ('{"audio": "a", "metadata": ' + "9" * 5000 + "}", "manifest_syntax", "a/talk.job.json", "5000 characters"),
        ('{"audio": "\\ud83d"}', "manifest_syntax", "a/talk.job.json", "surrogate"),
        ("[1]", "manifest_invalid", "a/talk.job.json", "it holds a list"),
        ('"talk.mp3"', "manifest_invalid", "a/talk.job.json", "'talk.mp3'"),
        ("{}", "missing_field", "", "names no media"),
        ('{"video": "v.mp4"}', "missing_field", "", "srt or audio is missing"),
        ('{"srt": "s.srt"}', "missing_field", "", "video is missing"),
        ('{"adio": "a.mp3"}', "unknown_field", "adio", "did you mean 'audio'?"),
        ('{"video": "v", "srt": "s", "audio": "a"}', "unknown_operation", "operation", "audio and video and srt"),
        ('{"operation": "transcibe", "audio": "a"}', "unknown_operation", "operation", "did you mean 'transcribe'?"),
        ('{"operation": ["transcribe"]}', "unknown_operation", "operation", "no operation a list"),
        ('{"audio": "a", "modle": "turbo"}', "unknown_field", "modle", "did you mean 'model'?"),
        ('{"operation": "caption", "video": "v"}', "missing_field", "srt", "srt is missing"),
        ('{"audio": null, "operation": "transcribe"}', "missing_field", "audio", "audio is missing"),
        ('{"images": []}', "no_images", "images", "no image"),
        ('{"images": {}}', "manifest_invalid", "images", "must be a list (it is an object)"),
        ('{"images": ["a.jpg"]}', "manifest_invalid", "images[0]", "must be an object with named fields"),
        ('{"images": [{"image": "a"}]}', "missing_field", "images[0].duration", "is missing"),
        ('{"images": [{"image": "a", "duraton": 1}]}', "unknown_field", "images[0].duraton", "'duration'"),
        ('{"images": [{"image": "a", "duration": 0}]}', "invalid_duration", "images[0].duration", "(it is 0)"),
        ('{"images": [{"image": "a", "duration": -2}]}', "invalid_duration", "images[0].duration", "(it is -2)"),
        ('{"images": [{"image": "a", "duration": 3601}]}', "invalid_duration", "images[0].duration", "3601"),
        ('{"images": [{"image": "a", "duration": "NaN"}]}', "invalid_duration", "images[0].duration", "'NaN'"),
        ('{"images": [{"image": "a", "duration": "long"}]}', "invalid_duration", "images[0].duration", "'long'"),
        ('{"images": [{"image": "a", "duration": true}]}', "invalid_duration", "images[0].duration", "true"),
        ('{"images": [{"image": "a", "duration": [1]}]}', "invalid_duration", "images[0].duration", "a list"),
        ('{"video": "v", "srt": "s", "output_filename": "../x"}', "invalid_path", "output_filename", "without folders"),
        ('{"audio": ""}', "invalid_path", "audio", "must not be empty"),
        ('{"audio": 1.5}', "manifest_invalid", "audio", "must be text"),
        ('{"audio": "a", "formats": ["srtt"]}', "manifest_invalid", "formats[0]", "did you mean 'srt'?"),
        ('{"audio": "a", "formats": []}', "manifest_invalid", "formats", "at least 1"),
        ('{"audio": "a", "beam_size": 0}', "manifest_invalid", "beam_size", "must be at least 1 (it is 0)"),
        ('{"audio": "a", "language": "Portuguese"}', "manifest_invalid", "language", "has the wrong form"),
        ('{"audio": "a", "callback_url": "ftp://x"}', "manifest_invalid", "callback_url", "'ftp://x'"),
        ('{"audio": "a", "metadata": [1]}', "manifest_invalid", "metadata", "must be an object"),
        ('{"audio": "a", "translate": "maybe"}', "manifest_invalid", "translate", "true or false"),
        (b'{"audio": "caf\xe9.mp3"}', "manifest_syntax", "a/talk.job.json, line 1, column 15", "not UTF-8"),
        (b'\xff\xfe{\x00"', "manifest_syntax", "a/talk.job.json, line 1, column 2", "not UTF-16"),
    ],
)
def test_json_refused(text: str | bytes, code: str, where: str, says: str) -> None:
    error = refusal(text)
    assert (error.info.code, error.info.where) == (code, where)
    assert says in error.info.message
    assert error.info.hint
    assert not re.search(r"pydantic|https?://\S*pydantic|Input should|validation error", error.info.message)


@pytest.mark.parametrize(
    ("text", "code", "where"),
    [
        ("# only a comment\n", "manifest_syntax", "a/talk.job.yaml"),
        ("audio: b: c", "manifest_syntax", "a/talk.job.yaml, line 1, column 9"),
        ("audio: a\naudio: b", "manifest_syntax", "a/talk.job.yaml, line 2, column 1"),
        ("audio: &x a.mp3", "manifest_aliases", "a/talk.job.yaml, line 1, column 8"),
        ("audio: *x", "manifest_aliases", "a/talk.job.yaml, line 1, column 8"),
        ("&x audio: a", "manifest_aliases", "a/talk.job.yaml, line 1, column 1"),
        ("audio: !!python/object/apply:os.system [ls]", "manifest_syntax", "a/talk.job.yaml, line 1, column 8"),
        ("audio: !secret a", "manifest_syntax", "a/talk.job.yaml, line 1, column 8"),
        ("audio: a\n---\naudio: b", "manifest_syntax", "a/talk.job.yaml, line 2, column 1"),
        ("? [a]\n: b", "manifest_syntax", "a/talk.job.yaml, line 1, column 3"),
        ("audio: a\nmetadata: {n: .nan}", "manifest_syntax", "a/talk.job.yaml, line 2, column 15"),
        ("audio: a\nmetadata: {n: -.INF}", "manifest_syntax", "a/talk.job.yaml, line 2, column 15"),
        ("audio: a\nmodel: \x01", "manifest_syntax", "a/talk.job.yaml, line 2, column 8"),
        ("- audio: a", "manifest_invalid", "a/talk.job.yaml"),
        ("audio: 1.5", "manifest_invalid", "audio"),
        ("audio: true", "manifest_invalid", "audio"),
    ],
)
def test_yaml_refused(text: str, code: str, where: str) -> None:
    error = refusal(text, ".job.yaml")
    assert (error.info.code, error.info.where) == (code, where)


def test_an_alias_bomb_is_refused_at_its_first_anchor() -> None:
    bomb = "a: &a [x, x]\n" + "".join(
        f"{b}: &{b} [*{a}, *{a}, *{a}, *{a}, *{a}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
    )
    error = refusal(bomb, ".job.yaml")
    assert (error.info.code, error.info.where) == ("manifest_aliases", "a/talk.job.yaml, line 1, column 4")


def test_norwegian_and_other_words_stay_text() -> None:
    manifest = from_yaml(
        "audio: 2024-01-01\nlanguage: no\nmodel: 12e\ninitial_prompt: 12:30\npath: 2024\n"
        "translate: yes\nvad: false\nbeam_size: 3\ncompression_ratio_threshold: ~\n"
        'metadata: {when: 2024-01-01, number: 1.10, zeros: 007, "on": on, "yes": true, none: null}\n'
    )
    assert isinstance(manifest, Transcribe)
    assert (manifest.audio, manifest.language, manifest.model) == ("2024-01-01", "no", "12e")
    assert (manifest.initial_prompt, manifest.path) == ("12:30", "2024")
    assert (manifest.translate, manifest.vad, manifest.beam_size) == (True, False, 3)
    assert manifest.compression_ratio_threshold is None
    assert manifest.metadata == {
        "when": "2024-01-01", "number": 1.1, "zeros": "007", "on": "on", "yes": True, "none": None,
    }  # fmt: skip


@pytest.mark.parametrize("suffix", [".job.json", ".job.yaml"])
@pytest.mark.parametrize(
    ("bom", "encoding"),
    [
        (b"", "utf-8"),
        (codecs.BOM_UTF8, "utf-8"),
        (codecs.BOM_UTF16_LE, "utf-16-le"),
        (codecs.BOM_UTF16_BE, "utf-16-be"),
    ],
)
def test_encodings(suffix: str, bom: bytes, encoding: str) -> None:
    manifest = read_manifest(bom + '{"audio": "ação 🎧.mp3"}'.encode(encoding), "x" + suffix)
    assert isinstance(manifest, Transcribe)
    assert manifest.audio == "ação 🎧.mp3"


def test_size_limit() -> None:
    padding = " " * (2**20 - len('{"audio": "a"}'))
    assert read_manifest(('{"audio": "a"}' + padding).encode(), "x.job.json")
    assert refusal('{"audio": "a"}' + padding + " ").info.code == "manifest_too_large"


@pytest.mark.parametrize("suffix", [".job.json", ".job.yaml"])
def test_depth_limit(suffix: str) -> None:
    def nested(depth: int) -> str:
        return '{"audio": "a]]]{{{\\"[", "metadata": {"m": ' + "[" * depth + "]" * depth + "}}"

    assert read_manifest(nested(18).encode(), "x" + suffix)
    assert refusal(nested(19), suffix).info.code == "manifest_too_deep"
    assert refusal("[" * 100_000, suffix).info.code == "manifest_too_deep"
    assert refusal('{"a":' * 100_000, suffix).info.code == "manifest_too_deep"


@pytest.fixture(params=["libyaml", "pure"])
def parser(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both parsers that PyYAML may bring; wheels have libyaml, what is built from source may not."""
    monkeypatch.setattr(yaml, "__with_libyaml__", request.param == "libyaml")
    return request.param


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        "[[\n" * 50_000,
        "a: " + "[" * 100_000,
        "- " + "[{a: " * 50_000,
        "a: b\nc: 'd'\ne:\n  # f [\n  - " + "[ " * 50_000,
        '[a, "b]", ' + "{c: [it's, " * 5_000,
        "[a: " * 50_000,
        "- " * 100_000,
        "\n".join(" " * i + "a:" for i in range(1_400)),
        "[[[" * 8 + "@",
        "[" * 2_000 + "]" * 2_000,
    ],
)
def test_depth_is_refused_before_the_parser_of_yaml_meets_a_limit_of_its_own(parser: str, text: str) -> None:
    assert refusal(text, ".job.yaml").info.code == "manifest_too_deep"


@pytest.mark.parametrize(
    "text",
    [
        "audio: '" + "[" * 2_000,
        'audio: "' + "[" * 2_000,
        "[a, '" + "[" * 2_000,
        "audio: a\nb: c" + "[" * 500 + ": d: e",
        "audio: [a, b] # " + "[" * 500 + "\n @",
        "audio: |\n\t" + "[" * 500 + "\n@",
        "[it's, it's" + " '{[" * 10 + "]" * 100,
        "[" + "[x], " * 100 + "@",
    ],
)
def test_brackets_that_nest_nothing_are_no_depth(parser: str, text: str) -> None:
    assert refusal(text, ".job.yaml").info.code == "manifest_syntax"


@pytest.mark.parametrize("text", ['{"a": "' + '\\"' * 500_000, '"' * 2**20, "\\" * 2**20, '{"' + "a" * 2**19 + '": 1}'])
def test_hostile_strings_are_refused_in_linear_time(text: str) -> None:
    assert refusal(text).info.code in ("manifest_syntax", "missing_field")


def test_image_limit() -> None:
    entry = '{"image":"a","duration":1}'
    assert (
        len(_images(read_manifest(f'{{"images":[{",".join([entry] * MAX_IMAGES)}]}}'.encode(), "x.job.json")))
        == MAX_IMAGES
    )
    assert refusal(f'{{"images":[{",".join([entry] * (MAX_IMAGES + 1))}]}}').info.code == "too_many_images"
    assert refusal("a.jpg;1\n" * (MAX_IMAGES + 1), ".job.csv").info.code == "too_many_images"


def test_every_problem_is_told_and_the_rest_counted() -> None:
    images = [{"image": "a.jpg", "duration": -i} for i in range(1, 11)]
    error = refusal(json.dumps({"images": images, "fsp": 25}))
    assert (error.info.code, error.info.where) == ("unknown_field", "fsp")
    assert "fsp is no field of img2vid (did you mean 'fps'?)." in error.info.message
    assert "images[6].duration" in error.info.message
    assert error.info.message.endswith("And 3 more.")


def test_long_values_are_shortened() -> None:
    error = refusal(json.dumps({"audio": "a", "language": "x" * 5000, "y" * 5000: 1}))
    assert len(error.info.message) < 400


def test_messages_are_one_printable_line() -> None:
    error = refusal(json.dumps({"audio": "a", "language": "p\nt\x1b[31m", "mo\ndle": 1}))
    assert "'p\\nt\\x1b[31m'" in error.info.message
    assert error.info.message.isprintable()


def test_a_manifest_full_of_unknown_fields_is_refused_at_once() -> None:
    assert refusal(json.dumps({f"k{i}": 1 for i in range(60_000)})).info.code == "missing_field"


def test_a_schema_pointer_is_ignored() -> None:
    assert from_json({"$schema": "./manifest.schema.json", "audio": "a"}) == Transcribe(audio="a")


def test_numbers_stand_for_text_where_text_belongs() -> None:
    manifest = from_json({"images": [{"image": 7, "duration": "6,48", "id": 42}]})
    assert _images(manifest) == (Image(image="7", duration=6.48, id="42"),)
    caption = from_json({"video": "v", "srt": "s", "output_filename": 12})
    assert isinstance(caption, Caption)
    assert caption.output_filename == "12.mp4"


def test_null_means_not_given_where_null_is_no_value() -> None:
    manifest = from_json({"audio": "a", "model": None, "formats": None, "metadata": None, "no_speech_threshold": None})
    assert manifest == Transcribe(audio="a", no_speech_threshold=None)


@pytest.mark.parametrize(
    "text",
    [
        "image,duration,id\r\na.jpg,6.48,1\r\n\r\nb é.jpg,5,\r\n",
        "\ufeffimage_url;duracao;id\na.jpg;6,48;1\nb é.jpg;5,0;\n",
        "ID\tSeconds\tFile\n1\t6,48\ta.jpg\n\t5\tb é.jpg\n",
        'url,duration,id\n"a.jpg","6,48",1\n"b é.jpg",5\n',
        "arquivo ; segundos ; id\na.jpg ; 6.48 ; 1\nb é.jpg ; 5 ;;\n",
    ],
)
def test_image_lists(text: str) -> None:
    manifest = read_manifest(text.encode(), "x.job.csv")
    assert isinstance(manifest, Img2Vid)
    assert manifest.images == (Image(image="a.jpg", duration=6.48, id="1"), Image(image="b é.jpg", duration=5.0))


def test_image_list_without_header() -> None:
    assert _images(read_manifest(b"a.jpg,6.5\nb.jpg,2\n", "x.job.csv"))[0] == Image(image="a.jpg", duration=6.5)
    assert _images(read_manifest(b"a,b.jpg;6,5\n", "x.job.csv")) == (Image(image="a,b.jpg", duration=6.5),)


@pytest.mark.parametrize(
    ("text", "code", "where"),
    [
        ("image;duration\n", "no_images", "a/talk.job.csv"),
        ("image;duraton\na;1", "unknown_field", "a/talk.job.csv, line 1"),
        ("image;url\na;b", "manifest_syntax", "a/talk.job.csv, line 1, column 1"),
        ("a.jpg,6,5\n", "manifest_syntax", "a/talk.job.csv, line 1, column 1"),
        ('image;duration\n"a;1\n', "manifest_syntax", "a/talk.job.csv, line 2, column 1"),
        ("image;duration\na.jpg;\n", "missing_field", "images[0].duration"),
        ("image;duration\na.jpg;0\n", "invalid_duration", "images[0].duration"),
        ("image;duration\n;1\n", "missing_field", "images[0].image"),
    ],
)
def test_image_lists_refused(text: str, code: str, where: str) -> None:
    error = refusal(text, ".job.csv")
    assert (error.info.code, error.info.where) == (code, where)


_names = st.sampled_from(
    ["audio", "video", "srt", "images", "operation", "path", "input", "audio_url", "url_image", "duration", "metadata",
     "image", "duracao", "temperature", "temperature_increment_on_fallback", "suppress_tokens", "transcription",
     "audio_base64", "formats", "output_filename", "callback_url", "$schema", "fps"]
)  # fmt: skip
_scalars = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.sampled_from([*MODELS, "srt"])
)
_trees = st.recursive(
    _scalars,
    lambda t: st.lists(t, max_size=4) | st.dictionaries(_names | st.text(max_size=5), t, max_size=6),
    max_leaves=20,
)


def _read_or_refuse(data: bytes, suffix: str) -> None:
    try:
        manifest = read_manifest(data, "a/b" + suffix)
    except ManifestError as error:
        assert error.info.message
        error.info.message.encode()
    else:
        json.dumps(manifest.model_dump(mode="json"), allow_nan=False).encode()


@given(st.dictionaries(_names, _trees, max_size=6), st.sampled_from((".job.json", ".job.yaml")))
def test_any_tree_is_a_manifest_or_refused(tree: Any, suffix: str) -> None:
    _read_or_refuse(json.dumps(tree).encode(), suffix)


@given(
    st.binary(max_size=200) | st.text(max_size=200).map(lambda t: t.encode("utf-8", "replace")),
    st.sampled_from(SUFFIXES),
)
def test_any_bytes_are_a_manifest_or_refused(data: bytes, suffix: str) -> None:
    _read_or_refuse(data, suffix)


@given(st.text(alphabet="ab:-?[]{}&*!|>'\"%#,\n 1\t", max_size=60))
def test_any_yaml_is_a_manifest_or_refused(text: str) -> None:
    _read_or_refuse(b"audio: a\n" + text.encode(), ".job.yaml")


def _images(manifest: Manifest) -> tuple[Image, ...]:
    assert isinstance(manifest, Img2Vid)
    return manifest.images
