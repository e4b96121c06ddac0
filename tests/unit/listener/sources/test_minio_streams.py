"""Which event streams are asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from listener.sources.minio.request import ListenStream, MinioListenSettings, listen_url, no_filter, plan_streams
from listener.triggers.filters import MAX_BYTES, Filter, common_filter


def filters_by(wanted: Mapping[str, Sequence[Filter]]) -> object:
    return lambda bucket: wanted.get(bucket, ())


@pytest.mark.parametrize(
    ("buckets", "wanted", "by_bucket", "streams"),
    [
        (("a",), {"a": [Filter("in/")]}, False, [ListenStream("a", Filter("in/"))]),
        (("a", "a"), {"a": [Filter()]}, False, [ListenStream("a")]),
        (("a", "b"), {"a": [Filter("in/x")], "b": [Filter("in/y")]}, False, [ListenStream("", Filter("in/"))]),
        (
            ("a", "b"),
            {"a": [Filter("in/x")], "b": [Filter()]},
            True,
            [ListenStream("a", Filter("in/x")), ListenStream("b")],
        ),
        (("a", "b"), {"b": [Filter("x")]}, False, [ListenStream("b", Filter("x"))]),
        (("a", "b"), {}, False, []),
        ((), {}, False, [ListenStream("")]),
        ((), {}, True, [ListenStream("")]),
    ],
)
def test_as_few_streams_as_the_server_allows(
    buckets: tuple[str, ...], wanted: Mapping[str, Sequence[Filter]], by_bucket: bool, streams: list[ListenStream]
) -> None:
    assert list(plan_streams(buckets, filters_by(wanted), by_bucket=by_bucket)) == streams  # type: ignore[arg-type]


def test_without_triggers_to_ask_everything_is_wanted() -> None:
    assert plan_streams(("a", "b"), no_filter, by_bucket=True) == (ListenStream("a"), ListenStream("b"))


@pytest.mark.parametrize(
    ("filters", "narrowest"),
    [
        ([Filter("in/a/", ".mp3"), Filter("in/b/", "x.mp3")], Filter("in/", ".mp3")),
        ([Filter("in/", ".mp3"), Filter("out/", ".wav")], Filter()),
        ([Filter("in/../x")], Filter("in/")),
        ([Filter("./x")], Filter()),
        ([Filter("in/.")], Filter("in/")),
        ([Filter("in/.hidden/")], Filter("in/.hidden/")),
        ([Filter("in\\x", "y\\z.mp3")], Filter("in", "z.mp3")),
        ([Filter("what?/*", "a*b?c")], Filter("what", "c")),
        ([Filter("", "../a.mp3")], Filter("", "/a.mp3")),
        ([Filter("", "/.")], Filter()),
        ([Filter("abc", "bcd")], Filter("abc")),
        ([Filter("é" * 600)], Filter("é" * (MAX_BYTES // 2))),
        ([Filter("", "é" * 600)], Filter("", "é" * (MAX_BYTES // 2))),
        ([Filter("a\ud800b")], Filter("a")),
    ],
)
def test_a_stream_is_as_narrow_as_the_server_takes(filters: list[Filter], narrowest: Filter) -> None:
    assert common_filter(filters) == narrowest


TEXT = st.text("ab./\\*?", max_size=6)


@given(st.lists(st.builds(Filter, TEXT, TEXT), min_size=1, max_size=4), st.data())
@example([Filter("ab", "ba")], None)
def test_no_key_of_interest_is_kept_back(filters: list[Filter], data: st.DataObject | None) -> None:
    found = common_filter(filters)
    for each in filters:
        overlapped = [each.prefix + each.suffix[n:] for n in range(len(each.suffix) + 1)]
        keys = [key for key in overlapped if key.startswith(each.prefix) and key.endswith(each.suffix)]
        if data:
            keys.append(each.prefix + data.draw(TEXT) + each.suffix)
        for key in keys:
            middle = len(key) - len(found.prefix) - len(found.suffix)
            assert key.startswith(found.prefix) and key.endswith(found.suffix) and middle >= 0, (key, found)
    for text in (found.prefix, found.suffix):
        assert not {".", ".."} & set(text.split("/"))
        assert not set("\\*?") & set(text)


def test_addresses_say_bucket_and_filter_as_the_server_reads_them() -> None:
    settings = MinioListenSettings("https://s3.example:9000", ("drop",), ping_s=3)
    url = listen_url(settings, ListenStream("drop", Filter("a b+c/é", "&.mp3")))
    assert url.startswith("https://s3.example:9000/drop?events=s3%3AObjectCreated%3A")
    assert url.endswith("&ping=3&prefix=a%20b%2Bc%2F%C3%A9&suffix=%26.mp3")
    in_host = MinioListenSettings("https://s3.example:9000", ("drop",), path_style=False)
    assert listen_url(in_host, ListenStream("drop")).startswith("https://drop.s3.example:9000/?events=")
    assert listen_url(in_host, ListenStream("")).startswith("https://s3.example:9000/?events=")
