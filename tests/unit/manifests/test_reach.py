"""Every way to name an object, from a folder that is not to reach another."""

from __future__ import annotations

import json

import pytest

from handlers.registry import load_registry
from manifests.errors import GpuDropError, InvalidPath, OutOfReach
from manifests.keys import output_folder
from manifests.reader import read_manifest
from manifests.references import WHOLE_BUCKET, ObjectRef, Reach, ReferencePolicy, UrlRef, resolve_reference

STORE = "http://minio.example:9000"
POLICY = ReferencePolicy(allowed_buckets=frozenset({"music"}), store_urls=(STORE, "https://s3.example"))
DROP = ObjectRef("b", "team-a/in/x.job.json")
OWN = Reach("folder")
WIDER = Reach("folder", folders=("*/",), also=("shared/", "s3://music/free/"))


def named(text: str, reach: Reach) -> None:
    media = resolve_reference(text, bucket="b", folder="team-a/in/", policy=POLICY, where="audio")
    reach.check_reference(DROP, media, "audio")


ELSEWHERE = [
    "../../team-b/a.mp3", "/team-b/a.mp3", "s3://b/team-b/a.mp3", "S3://b/team-b/a.mp3", f"{STORE}/b/team-b/a.mp3",
    f"{STORE}/b/team-b/a.mp3?X-Amz-Signature=1", f"{STORE}/b/team%2Db/a.mp3", f"{STORE}/b/team-b%2Fa.mp3",
    f"{STORE}/b/team-b/a b.mp3", "https://b.s3.example/team-b/a.mp3", "HTTPS://S3.EXAMPLE./b/team-b/a.mp3",
    "/a.mp3", "./../../a.mp3", "/./team-b/a.mp3", "../../team-a/in/../../team-b/a.mp3", "/team-ab/a.mp3",
    "/Team-A/in/a.mp3", "s3://music/b/a.mp3", f"{STORE}/music/b/a.mp3", "/te\u0301am-a/in/a.mp3",
    "/shared", "/shared.mp3", "s3://music/free.mp3", "/team%2Da/in/a.mp3",
]  # fmt: skip


@pytest.mark.parametrize("text", ELSEWHERE)
def test_another_folder(text: str) -> None:
    named(text, WHOLE_BUCKET)
    for reach in (OWN, WIDER):
        with pytest.raises(OutOfReach) as caught:
            named(text, reach)
        assert (caught.value.info.code, caught.value.info.where) == ("out_of_reach", "audio")


@pytest.mark.parametrize(
    "text",
    [f"{STORE}/b/team-a/in/%2e%2e/%2e%2e/team-b/a.mp3", f"{STORE}/b/team-a/in/../../team-b/a.mp3", "..", "/", "s3://b/../x/a",
     "../../../a.mp3", "s3://other/a.mp3", "/.gpudrop/jobs/1/1.task", "/_dlq/2026/01/01/x.json"],
)  # fmt: skip
def test_what_nobody_reaches(text: str) -> None:
    with pytest.raises(GpuDropError):
        named(text, WHOLE_BUCKET)


@pytest.mark.parametrize(
    "text",
    ["a.mp3", "./a.mp3", "deep/a.mp3", "../in/a.mp3", "/team-a/in/a.mp3", "s3://b/team-a/in/a.mp3",
     f"{STORE}/b/team-a/in/a.mp3", f"{STORE}/b/team-a/in/a%20b.mp3", "data:,x", "https://web.example/a.mp3"],
)  # fmt: skip
def test_the_own_folder_and_the_web(text: str) -> None:
    for reach in (OWN, WIDER):
        named(text, reach)


@pytest.mark.parametrize(
    "text",
    [
        "../out/a.mp3",
        "/team-a/a.mp3",
        "/team-a/in.mp3",
        "/team-a/i\u0301n/a.mp3",
        "/shared/a.mp3",
        "s3://music/free/a.mp3",
    ],
)
def test_what_the_operator_adds(text: str) -> None:
    named(text, WIDER)
    with pytest.raises(OutOfReach):
        named(text, OWN)


@pytest.mark.parametrize(
    ("folders", "key", "reached"),
    [
        (("clients/*/",), "clients/x/out/a", True),
        (("clients/*/",), "clients/y/out/a", False),
        (("clients/*/in/",), "clients/x/in/deep/a", True),
        (("clients/*/out/",), "clients/x/out/a", False),
        (("clients/",), "clients/y/out/a", True),
        (("clients/x/in/deep/er/",), "clients/x/in/a", False),
        (("",), "anything", True),
    ],
)
def test_folders_of_several(folders: tuple[str, ...], key: str, reached: bool) -> None:
    drop = ObjectRef("b", "clients/x/in/deep/t.job.json")
    assert Reach("folder", folders).covers(drop, "b", key) is reached


@pytest.mark.parametrize(("key", "fits"), [("team-a/in/out/x", True), ("team-a/x", False), ("team-b/x", False)])
def test_outputs(key: str, fits: bool) -> None:
    WHOLE_BUCKET.check_output(DROP, key, "path")
    if fits:
        OWN.check_output(DROP, key, "path")
    else:
        with pytest.raises(OutOfReach, match="written"):
            OWN.check_output(DROP, key, "path")


def test_a_drop_at_the_root_reaches_its_bucket_alone() -> None:
    drop = ObjectRef("b", "x.job.json")
    assert OWN.covers(drop, "b", "team-b/a.mp3")
    with pytest.raises(OutOfReach, match="reaches only this bucket"):
        OWN.check_reference(drop, ObjectRef("music", "a.mp3"), "audio")


def test_the_web_is_not_the_store() -> None:
    OWN.check_reference(DROP, UrlRef("https://web.example/team-b/a.mp3"), "audio")
    with pytest.raises(OutOfReach):
        OWN.check_reference(DROP, ObjectRef("b", "team-b/a.mp3"), "audio")


OWN_FILE = f"{STORE}/b/team-a/in/a b.mp4"


@pytest.mark.parametrize(
    ("body", "role"),
    [
        ({"url_video": f"{STORE}/b/team-b/a b.mp4", "url_srt": OWN_FILE}, "video"),
        ({"url_video": OWN_FILE, "url_audio": "s3://b/team-b/a.mp3"}, "audio"),
        ({"input": {"audio": "https://s3.example/b/team%2Db/a.mp3", "model": "base"}, "webhook": None}, "audio"),
        ({"images": [{"id": "1", "image_url": OWN_FILE, "duracao": 1}, {"image_url": "/x/a.png", "duracao": "2,5"}]},
         "images[1].image"),
    ],
)  # fmt: skip
def test_old_bodies(body: dict[str, object], role: str) -> None:
    manifest = read_manifest(json.dumps(body).encode(), DROP.key)
    handler = load_registry().get(str(manifest.model_dump()["operation"]))
    refused: list[str] = []
    for reference in handler.references(manifest):
        media = resolve_reference(reference.text, bucket="b", folder="team-a/in/", policy=POLICY, where=reference.role)
        try:
            OWN.check_reference(DROP, media, reference.role)
        except OutOfReach as e:
            refused.append(e.info.where)
    assert refused == [role]


@pytest.mark.parametrize("path", ["team-b/out", "/team-b/out/", "team-a", "team-a/in/../../team-b"])
def test_the_path_of_an_old_body_counts_from_the_root(path: str) -> None:
    manifest = read_manifest(json.dumps({"url_video": "a.mp4", "url_srt": "a.srt", "path": path}).encode(), DROP.key)
    with pytest.raises((OutOfReach, InvalidPath)):
        OWN.check_output(DROP, output_folder(manifest.path, folder="team-a/in/"), "path")
