"""References: where they lead, and where they must not."""

from __future__ import annotations

from urllib.parse import quote, urlsplit

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from manifests.errors import GpuDropError
from manifests.hosts import is_private_host
from manifests.keys import has_parent_segment, key_problem, output_folder
from manifests.references import ObjectRef, ReferencePolicy, UrlRef, resolve_reference

POLICY = ReferencePolicy(
    allowed_buckets=frozenset({"shared"}),
    store_urls=("http://minio.example.com:9000", "https://cdn.example.com/s3/", "http://10.0.0.9"),
    private_hosts=frozenset({"nas.lan"}),
)
TITLE = "GOD IS GREATER/SEE GOD'S PLAN + 100% | Você?/audio final.mp3"


def at(text: str, folder: str = "a/b/") -> object:
    return resolve_reference(text, bucket="canais", folder=folder, policy=POLICY)


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("x.mp3", "a/b/x.mp3"),
        ("./x.mp3", "a/b/x.mp3"),
        ("../x.mp3", "a/x.mp3"),
        ("../../x.mp3", "x.mp3"),
        ("c/../x.mp3", "a/b/x.mp3"),
        ("/x/y.mp3", "x/y.mp3"),
        ("/x/../y.mp3", "y.mp3"),
        (TITLE, "a/b/" + TITLE),
        ("100%20.mp3", "a/b/100%20.mp3"),
        ("./data:1,2.mp3", "a/b/data:1,2.mp3"),
        ("C:\\x.mp3", "a/b/C:\\x.mp3"),
        ("s3://canais/x y.mp3", "x y.mp3"),
        ("S3://canais/100%20.mp3", "100%20.mp3"),
        ("http://minio.example.com:9000/canais/x.mp3", "x.mp3"),
        ("https://minio.example.com:9000/canais/x.mp3", "x.mp3"),
        ("HTTP://MinIO.Example.COM.:9000/canais/a%2Bb+c%20d.mp3", "a+b+c d.mp3"),
        ("http://minio.example.com:9000/canais/x.mp3?X-Amz-Signature=1#t", "x.mp3"),
        ("http://minio.example.com:9000/canais/x.mp3\n", "x.mp3"),
        ("http://minio.example.com:9000/canais/" + TITLE, TITLE),
        ("http://minio.example.com:9000/canais/" + TITLE + "?X-Amz-Algorithm=A&X-Amz-Date=1", TITLE),
        ("http://minio.example.com:9000/canais/" + quote(TITLE), TITLE),
        ("http://minio.example.com:9000/canais/a b%20c #1.mp3", "a b%20c #1.mp3"),
        ("https://cdn.example.com/s3/canais/x.mp3", "x.mp3"),
        ("https://cdn.example.com:443/s3/canais/x.mp3", "x.mp3"),
        ("http://10.0.0.9/canais/x.mp3", "x.mp3"),
        ("http://canais.minio.example.com:9000/x/y%20z.mp3", "x/y z.mp3"),
    ],
)
def test_objects_of_the_bucket(text: str, key: str) -> None:
    assert at(text) == ObjectRef("canais", key)


@pytest.mark.parametrize("text", ["s3://shared/x.mp3", "http://minio.example.com:9000/shared/x.mp3",
                                  "http://shared.minio.example.com:9000/x.mp3"])  # fmt: skip
def test_objects_of_an_allowed_bucket(text: str) -> None:
    assert at(text) == ObjectRef("shared", "x.mp3")


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("https://example.com/a.mp3?x=1&y=%20", "https://example.com/a.mp3?x=1&y=%20"),
        ("HTTPS://Example.COM./ä b|100%.mp3", "https://example.com/%C3%A4%20b%7C100%25.mp3"),
        ("https://bücher.example/x", "https://xn--bcher-kva.example/x"),
        ("https://user:pa%40ss@example.com/x", "https://user:pa%40ss@example.com/x"),
        ("http://[2606:4700::1111]:8080/x", "http://[2606:4700::1111]:8080/x"),
        ("http://nas.lan/x", "http://nas.lan/x"),
        ("http://minio.example.com/canais/x.mp3", "http://minio.example.com/canais/x.mp3"),
        ("https://cdn.example.com/s3other/x.mp3", "https://cdn.example.com/s3other/x.mp3"),
        ("http://console.minio.example.com:9000/x", "http://console.minio.example.com:9000/x"),
        ("https://example.com/a\\b", "https://example.com/a%5Cb"),
        ("data:audio/wav;base64,AA==", "data:audio/wav;base64,AA=="),
        ("DATA:,hello", "data:,hello"),
    ],
)
def test_addresses_elsewhere(text: str, url: str) -> None:
    assert at(text) == UrlRef(url)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("../../../x.mp3", "invalid_path"),
        ("/../x.mp3", "invalid_path"),
        ("x/", "invalid_path"),
        ("", "invalid_path"),
        (".", "invalid_path"),
        ("/", "invalid_path"),
        ("s3://canais/", "invalid_path"),
        ("s3://canais", "invalid_path"),
        ("http://minio.example.com:9000/canais/", "invalid_path"),
        ("data:x.mp3", "invalid_path"),
        ("ftp://example.com/x", "invalid_path"),
        ("file:///etc/passwd", "invalid_path"),
        ("http://", "invalid_path"),
        ("http:///x", "invalid_path"),
        ("http://exa mple.com/x", "invalid_path"),
        ("http://example.com:99999/x", "invalid_path"),
        ("http://example.com:port/x", "invalid_path"),
        ("http://example.com\\@127.0.0.1/x", "invalid_path"),
        ("http://a@b@127.0.0.1/x", "invalid_path"),
        ("http://[::1/x", "invalid_path"),
        ("http://example.com/a\nb", "invalid_path"),
        ("http://exa\tmple.com/a", "invalid_path"),
        ("a//x.mp3", "unusable_key"),
        ("//x.mp3", "unusable_key"),
        ("a\nb.mp3", "unusable_key"),
        ("a\x7f.mp3", "unusable_key"),
        ("a\x85.mp3", "unusable_key"),
        ("a\ud800.mp3", "unusable_key"),
        ("é" * 512, "unusable_key"),
        ("s3://canais/../x", "unusable_key"),
        ("s3://canais/a/./x", "unusable_key"),
        ("s3://canais//x", "unusable_key"),
        ("http://minio.example.com:9000/canais/%2e%2e/x", "unusable_key"),
        ("http://minio.example.com:9000/canais/a%00b", "unusable_key"),
        ("http://minio.example.com:9000/canais/%FF.mp3", "unusable_key"),
        ("s3://other/x.mp3", "bucket_not_allowed"),
        ("s3:///x.mp3", "bucket_not_allowed"),
        ("http://minio.example.com:9000/other/x.mp3", "bucket_not_allowed"),
        ("http://minio.example.com:9000/", "bucket_not_allowed"),
        ("http://public@127.0.0.1/", "address_not_allowed"),
        ("http://127.0.0.1:9000/x", "address_not_allowed"),
        ("http://2130706433/x", "address_not_allowed"),
        ("http://0x7f.1/x", "address_not_allowed"),
        ("http://0177.0.0.1/x", "address_not_allowed"),
        ("http://１２７.０.０.１/x", "address_not_allowed"),
        ("http://[::ffff:127.0.0.1]/x", "address_not_allowed"),
        ("http://169.254.169.254/latest/meta-data", "address_not_allowed"),
        ("http://localhost./x", "address_not_allowed"),
        ("http://minio:9000/x", "address_not_allowed"),
        ("http://10.0.0.9:8080/canais/x.mp3", "address_not_allowed"),
    ],
)
def test_refused(text: str, code: str) -> None:
    with pytest.raises(GpuDropError) as caught:
        resolve_reference(text, bucket="canais", folder="a/b/", policy=POLICY, where="images[3].image")
    assert (caught.value.info.code, caught.value.info.where) == (code, "images[3].image")


_pieces = st.sampled_from(
    ["..", ".", "/", "//", "\\", "%2e%2e", "%2F", "%00", "s3://", "http://", "https://", "canais", "shared", "other",
     "minio.example.com:9000", "minio.example.com", "10.0.0.9", "127.0.0.1", "@", ":", "?", "#", " ", "\n", "a",
     "data:", "[::1]", "é", "\ud800", "\u2028", "。", "１"]
)  # fmt: skip
_texts = st.text(max_size=40) | st.lists(_pieces, max_size=12).map("".join)


@given(_texts, st.sampled_from(["", "a/", "a/b/"]))
@example("http://minio.example.com:9000/canais/%2F..%2Fx", "a/")
def test_no_text_leads_astray(text: str, folder: str) -> None:
    try:
        ref = resolve_reference(text, bucket="canais", folder=folder, policy=POLICY)
    except GpuDropError as error:
        assert error.info.code in ("invalid_path", "unusable_key", "bucket_not_allowed", "address_not_allowed")
        return
    if isinstance(ref, ObjectRef):
        assert ref.bucket in ("canais", "shared")
        assert key_problem(ref.key) == ""
        assert not ref.key.endswith("/")
        assert resolve_reference(str(ref), bucket="canais", folder="", policy=POLICY) == ref
    elif not ref.url.startswith("data:"):
        parts = urlsplit(ref.url)
        assert ref.url.isascii()
        assert " " not in ref.url
        assert parts.scheme in ("http", "https")
        assert parts.hostname
        assert not is_private_host(parts.hostname, POLICY.private_hosts)


@given(st.text(min_size=1, max_size=40))
def test_every_usable_key_is_named_by_its_store_address(key: str) -> None:
    if key_problem(key) or key.endswith("/"):
        return
    address = "http://minio.example.com:9000/canais/" + quote(key, safe="/")
    assert at(address) == ObjectRef("canais", key)


@pytest.mark.parametrize(
    ("path", "folder", "expected"),
    [
        (None, "a/b/", "a/b/"),
        ("", "a/b/", "a/b/"),
        (".", "a/b/", "a/b/"),
        ("./", "a/b/", "a/b/"),
        ("out", "a/b/", "a/b/out/"),
        ("out/", "a/b/", "a/b/out/"),
        ("./out/x//", "a/b/", "a/b/out/x/"),
        ("/", "a/b/", ""),
        ("/P N/V T/", "a/b/", "P N/V T/"),
        ("out", "", "out/"),
        (None, "", ""),
    ],
)
def test_output_folder(path: str | None, folder: str, expected: str) -> None:
    assert output_folder(path, folder=folder) == expected
    assert output_folder(path, folder=folder, allow_parent=True) == expected


@pytest.mark.parametrize(
    ("path", "code"),
    [("../x", "invalid_path"), ("a\\..\\x", "invalid_path"), ("/a/../x", "invalid_path"), ("a//b", "unusable_key"),
     ("a\nb", "unusable_key"), ("s3://canais/x/", "invalid_path"), ("/.gpudrop/x", "invalid_path"),
     ("/_dlq", "invalid_path"), ("x" * 1100, "unusable_key")],
)  # fmt: skip
def test_output_folder_refused(path: str, code: str) -> None:
    with pytest.raises(GpuDropError) as caught:
        output_folder(path, folder="a/")
    assert (caught.value.info.code, caught.value.info.where) == (code, "path")


def test_an_operators_path_climbs_but_stays_in_the_bucket() -> None:
    assert output_folder("../transcriptions/", folder="c/audios/", allow_parent=True) == "c/transcriptions/"
    assert output_folder("..", folder="c/audios/", allow_parent=True) == "c/"
    assert output_folder("../..", folder="c/audios/", allow_parent=True) == ""
    with pytest.raises(GpuDropError) as caught:
        output_folder("../../..", folder="c/audios/", allow_parent=True)
    assert caught.value.info.code == "invalid_path"


@given(_texts, st.booleans(), st.sampled_from(["", "a/", "a/b/"]))
def test_no_output_leaves_the_bucket(path: str, may_climb: bool, folder: str) -> None:
    try:
        found = output_folder(path, folder=folder, allow_parent=may_climb)
    except GpuDropError:
        return
    assert found == "" or (found.endswith("/") and key_problem(found) == "")
    assert found.startswith(folder) or path.startswith("/") or (may_climb and has_parent_segment(path))
