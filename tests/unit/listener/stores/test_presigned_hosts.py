"""The host that a presigned address signs is the one that clients send."""

from __future__ import annotations

import pytest
from yarl import URL

from listener.config.credentials import AccessKeys
from listener.stores.s3.presign import presigned


def signature(url: str) -> str:
    made = presigned("GET", url, AccessKeys("key", "word", ""), region="us-east-1", expires_s=9, now_s=1.0)
    return made.rpartition("=")[2]


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ("https://Store.Example:443", "store.example"),
        ("http://store.example:80", "store.example"),
        ("http://Store.Example:9000", "store.example:9000"),
        ("https://store.example:80", "store.example:80"),
        ("http://münchen.example", "xn--mnchen-3ya.example"),
        ("http://[2001:DB8::1]:9000", "[2001:db8::1]:9000"),
        ("http://[::1]:80", "[::1]"),
    ],
)
def test_an_endpoint_however_it_is_written(given: str, sent: str) -> None:
    keys = AccessKeys("key", "word", "")
    made = presigned("GET", f"{given}/b/k", keys, region="us-east-1", expires_s=9, now_s=1.0)
    assert URL(made, encoded=True).host_port_subcomponent == sent
    assert made.partition("?")[0].endswith(f"://{sent}/b/k")
    assert signature(f"{given}/b/k") == signature(f"{given.partition(':')[0]}://{sent}/b/k")
