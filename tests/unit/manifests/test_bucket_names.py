"""What a bucket can be called, told where it is configured and where a server refuses it."""

from __future__ import annotations

import pytest

from listener.config.loader import parse_config
from listener.sources.minio.errors import listen_refused
from listener.stores.s3.errors import error_from_code
from manifests.errors import ConfigError
from manifests.keys import bucket_name_problem

GOOD = ("drop", "my.bucket-2", "a" * 63, "Media_2019", "old:name", "123", "1.2.3")
BAD = {
    "My Bucket": "'my-bucket'",
    "drops/": "'drops'",
    "drops/in": "'in/' as the `prefix`",
    "s3://drops": "'drops'",
    "https://s3.example": "'s3.example'",
    "-drops-": "'drops'",
    "two..dots": "'two.dots'",
    "ab": "3 to 63",
    "a" * 64: "did you mean",
    "10.0.0.5": "3 to 63",
    "": "3 to 63",
}


@pytest.mark.parametrize("name", GOOD)
def test_names_that_buckets_have(name: str) -> None:
    assert bucket_name_problem(name) == ""


@pytest.mark.parametrize(("name", "words"), BAD.items())
def test_names_that_none_can_have_say_what_was_meant(name: str, words: str) -> None:
    assert words in bucket_name_problem(name)


def test_the_configuration_is_refused_with_the_nearest_name() -> None:
    store = {"kind": "s3", "endpoint": "http://127.0.0.1:9000", "buckets": ["fine", "My Bucket"]}
    with pytest.raises(ConfigError) as raised:
        parse_config({"store": store}, origin="c.yaml")
    assert "'my-bucket'" in str(raised.value) and raised.value.info.where.startswith("store.buckets")


def test_a_server_that_refuses_a_name_is_not_asked_for_permission() -> None:
    body = b"<Error><Code>InvalidBucketName</Code><Message>The specified bucket is not valid.</Message></Error>"
    for error in (
        listen_refused(400, body, bucket="My_", endpoint="http://s"),
        error_from_code("InvalidBucketName", 400, "", doing="list", bucket="My_", endpoint="http://s"),
    ):
        assert "store.buckets" in error.info.hint and "Allow" not in error.info.hint
