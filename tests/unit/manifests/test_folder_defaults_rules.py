"""What somebody's `_gpudrop.yaml` may do to the manifests of others: set options, and nothing else."""

from __future__ import annotations

import pytest

from manifests.defaults import (
    EVERY_FOLDER,
    DefaultsFolder,
    DefaultsFolders,
    check_folder_defaults,
    defaults_from,
    read_defaults,
)
from manifests.errors import GpuDropError

KEY = "team/in/_gpudrop.yaml"


def check(text: str, key: str = KEY, *, addresses: bool = False) -> None:
    check_folder_defaults(read_defaults(text.encode(), key), key, addresses=addresses)


@pytest.mark.parametrize(
    "text",
    [
        "callback_url: https://stranger.example/",
        "callback_url: null",
        "transcribe: {callback_url: https://stranger.example/}",
        "srt: https://stranger.example/a.srt",
        "caption: {srt: ' HTTP://stranger.example/a.srt'}",
        "images: [{image: ftp://stranger.example/a, duration: 1}]",
    ],
)
def test_it_names_no_address_unless_its_folder_may(text: str) -> None:
    with pytest.raises(GpuDropError) as caught:
        check(text)
    info = caught.value.info
    assert info.code == "address_not_allowed"
    assert info.where.startswith(f"{KEY}: ")
    assert 'defaults_from: [{folder: "team/in/", addresses: true}]' in info.hint
    check(text, addresses=True)


@pytest.mark.parametrize(
    "text",
    [
        "language: pt\nmodel: turbo\nsuppress_tokens: [1]\ntranscribe: {beam_size: 3}\n",
        "metadata: {page: https://home.example/, callback_url: x}",
        "srt: common.srt\nvideo: s3://drop/team/in/a.mp4\naudio: data:,x",
        "initial_prompt: 'Names: see https://home.example/'",
    ],
)
def test_plain_options_go_on(text: str) -> None:
    check(text)


@pytest.mark.parametrize("name", ["webhook", "notify_url", "auth_token", "headers", "api_secret"])
def test_fields_of_other_handlers_are_known_by_their_names(name: str) -> None:
    from manifests.models import MODELS, Manifest

    theirs = type("Theirs", (Manifest,), {"__annotations__": {name: str}, name: ""})
    document = read_defaults(f"theirs: {{{name}: x}}".encode(), KEY, models={**MODELS, "theirs": theirs})
    with pytest.raises(GpuDropError, match=name):
        check_folder_defaults(document, KEY, addresses=False)


@pytest.mark.parametrize("path", ["/", "/victim", "/team", "/team/other/", "/team/inside/", "/./victim/", "/team/./x"])
def test_outputs_stay_in_the_folder_of_the_document(path: str) -> None:
    for text in (f"path: {path}", f"addaudio: {{path: {path}}}"):
        with pytest.raises(GpuDropError) as caught:
            check(text, addresses=True)
        assert (caught.value.info.code, caught.value.info.where) == ("invalid_path", f"{KEY}: path")


@pytest.mark.parametrize("path", ["out/", ".", "./out", "/team/in", "/team/in/", "/team/in/out/", "/./team/in/out"])
def test_outputs_may_lie_anywhere_in_it(path: str) -> None:
    check(f"path: {path}")


def test_the_operators_own_may_hold_anything() -> None:
    source = "config.yaml: defaults"
    document = defaults_from({"callback_url": "https://mine.example/", "path": "/results/"}, source=source)
    assert document.fields["callback_url"] == "https://mine.example/"


def test_whose_count() -> None:
    assert EVERY_FOLDER.count("b", KEY)
    assert not EVERY_FOLDER.may_address("b", KEY)
    listed = DefaultsFolders(
        (
            DefaultsFolder("", addresses=True),
            DefaultsFolder("team/"),
            DefaultsFolder("team/", buckets=("ours",), addresses=True),
        )
    )
    assert listed.may_address("b", "_gpudrop.yaml")
    assert listed.may_address("b", "teams/_gpudrop.yaml")
    assert listed.count("b", KEY)
    assert not listed.may_address("b", KEY)
    assert listed.may_address("ours", KEY)
    assert not DefaultsFolders((DefaultsFolder("team/"),)).count("b", "_gpudrop.yaml")
    assert not DefaultsFolders(()).count("b", KEY)
