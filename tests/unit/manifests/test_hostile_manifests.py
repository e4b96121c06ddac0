"""Whatever the bytes of a manifest: it is read and planned, or refused with an error of ours, in a bounded time."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from handlers.base import Input, Planning
from handlers.registry import own_handlers
from manifests.callback_urls import caller_fields, default_caller_fields
from manifests.defaults import read_defaults
from manifests.errors import GpuDropError, ManifestError, TooManyImages, UnknownField
from manifests.keys import output_folder
from manifests.models import Transcribe
from manifests.reader import read_manifest
from manifests.references import ReferencePolicy, resolve_reference
from support.hostile_documents import MANIFESTS

LIMIT_S = 30.0
"""For what takes a second at most."""
HANDLERS = {handler.operation: handler for handler in own_handlers()}
POLICY = ReferencePolicy(store_urls=("http://minio.example:9000",))

NUMBERS = (
    "1e400",
    "-1e400",
    "1e-400",
    "5e-324",
    "NaN",
    "-Infinity",
    "9" * 299,
    "9" * 5000,
    "0.1",
    "-0",
    "²",
    ".inf",
    "1",
)
TEXTS = (
    *("a.mp3", "", "/", "../a", "./data:x", "data:", "s3://b/k", "s3://", "http://[", "http://[::1]:99999/a", "\ud800"),
    *("http://a:99999/", "https://xn--a.example/%zz", "\0", "nan", "inf", "-inf", "1e999", "9" * 400, "２", "a" * 300),
)
FIELDS = (
    *(
        "audio",
        "video",
        "srt",
        "images",
        "url_image",
        "audio_base64",
        "temperature",
        "duration",
        "metadata",
        "path",
        "fps",
    ),
    *("temperature_increment_on_fallback", "suppress_tokens", "offset", "callback_url", "output_filename", "formats"),
    *("operation", "input", "webhook", "transcription", "language", "patience", "zoom_to", "enable_vad", "translate"),
)
OPERATIONS = ("transcribe", "caption", "img2vid", "addaudio")

_scalars = st.sampled_from([*NUMBERS, "true", "null", "[]", "{}"]) | st.sampled_from(TEXTS + OPERATIONS).map(
    lambda text: '"' + text.replace("\0", "\\u0000").replace("\ud800", "\\ud800") + '"'
)


def _object(values: st.SearchStrategy[str], names: Any = FIELDS) -> st.SearchStrategy[str]:
    pairs = st.lists(st.tuples(st.sampled_from(names), values), max_size=5, unique_by=lambda pair: pair[0])
    return pairs.map(lambda entries: "{" + ",".join(f'"{name}":{value}' for name, value in entries) + "}")


_image = _object(_scalars, ("image", "duration", "id", "image_url", "duracao"))
_values = _scalars | _image | st.lists(_image | _scalars, max_size=3).map(lambda items: f"[{','.join(items)}]")
documents = st.binary(max_size=200) | (_object(_values) | _object(_object(_values))).map(str.encode)
suffixes = st.sampled_from(["job.json", "job.yaml", "job.csv"])


def planned(data: bytes, key: str) -> None:
    manifest: Any = read_manifest(data, key)
    handler: Any = HANDLERS.get(manifest.operation)
    folder = output_folder(manifest.path, folder="a/")
    if handler is None:
        return
    inputs = {
        each.role: Input(
            resolve_reference(each.text, bucket="drops", folder="a/", policy=POLICY, where=each.role), 1, b""
        )
        for each in handler.references(manifest)
    }
    handler.plan(Planning(manifest, "talk", "drops", folder, inputs))


@settings(max_examples=400)
@given(documents, suffixes)
def test_any_bytes_give_a_plan_or_an_error_of_ours(data: bytes, suffix: str) -> None:
    with suppress(GpuDropError):
        planned(data, f"a/talk.{suffix}")
    with suppress(ManifestError):
        read_defaults(data, "a/_gpudrop.yaml")
    caller_fields(data, f"a/talk.{suffix}")
    default_caller_fields(data, "a/_gpudrop.yaml")


@pytest.mark.parametrize(("form", "shape"), [(form, shape) for form, shapes in MANIFESTS.items() for shape in shapes])
def test_the_largest_manifests_are_soon_dealt_with(form: str, shape: str) -> None:
    data = MANIFESTS[form][shape](2**20)
    began = time.process_time()
    with suppress(ManifestError):
        read_manifest(data, f"talk.{form}")
    assert time.process_time() - began < LIMIT_S


@pytest.mark.parametrize("step", ["nan", "-inf", "inf", "1e999", 5e-324, 10**299])
@pytest.mark.parametrize("start", [None, "nan", "-inf", -1e308])
def test_temperatures_that_are_no_numbers_are_refused(start: Any, step: Any) -> None:
    fields = {"audio": "a.mp3", "temperature": start, "temperature_increment_on_fallback": step}
    try:
        asked = read_manifest(json.dumps(fields).encode(), "talk.job.json")
    except ManifestError as e:
        assert e.info.message
    else:
        assert isinstance(asked, Transcribe)
        assert asked.temperature and all(0.0 <= each <= 1.0 for each in asked.temperature)


def test_far_too_many_names_are_refused_before_each_is_told_of() -> None:
    """116,000 refusals of a model took 420 MB."""
    entry = "{" + ",".join(f'"x{i}":1' for i in range(30)) + "}"
    many = f'{{"images":[{",".join([entry] * 100)}]}}'
    with pytest.raises(UnknownField, match=r"images\[0\]\.x0' is no field of an entry of images") as told:
        read_manifest(many.encode(), "talk.job.json")
    assert told.value.info.where == "images[0].x0"
    with pytest.raises(UnknownField, match="'x0' is no field of transcribe"):
        read_manifest(json.dumps({"audio": "a", **{f"x{i}": 1 for i in range(1000)}}).encode(), "talk.job.json")
    with pytest.raises(TooManyImages):
        read_manifest(b'{"images":[' + b"1," * 200_000 + b"1]}", "talk.job.json")
