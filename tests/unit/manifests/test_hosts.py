"""Private addresses in every spelling a resolver understands."""

from __future__ import annotations

import ipaddress
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from manifests.hosts import is_private_host, is_public, parse_web_address

PRIVATE = [
    "localhost", "LOCALHOST.", "a.localhost", "printer.local", "metadata.google.internal", "nas.lan", "minio", "n8n",
    "127.0.0.1", "127.0.0.1.", "127.1", "127.0.1", "0", "0.0.0.0", "2130706433", "0x7f000001", "0x7f.1", "0177.0.0.1",
    "017700000001", "10.0.0.1", "10.1", "172.16.0.1", "192.168.1.1", "0xc0.0xa8.1", "169.254.169.254", "100.64.0.1",
    "224.0.0.1", "255.255.255.255", "198.18.0.1", "08.1.1.1", "1.2.3.4.5", "999.1.1.1", "8.8.8.256", "1.2.3.0x",
    "99999999999", "::1", "[::1]", "::", "fe80::1", "fe80::1%eth0", "fc00::1", "ff02::1", "::ffff:127.0.0.1",
    "[::ffff:7f00:1]", "::127.0.0.1", "64:ff9b::7f00:1", "64:ff9b:1::a00:1", "2002:7f00:1::", "2001:db8::1",
    "１２７.0.0.1", "127。0。0。1", "①②⑦.0.0.1", "", " ", "a b.com", "exa\u200bmple..com",
]  # fmt: skip
PUBLIC = [
    "example.com", "EXAMPLE.com.", "8.8.8.8", "134744072", "0x08080808", "bücher.example", "1.example.com",
    "2606:4700::1111", "[2606:4700::1111]", "::ffff:8.8.8.8", "64:ff9b::808:808", "s3.eu-west-1.amazonaws.com",
    "a_b.example.com",
]  # fmt: skip


@pytest.mark.parametrize("host", PRIVATE)
def test_private(host: str) -> None:
    assert is_private_host(host)


@pytest.mark.parametrize("host", PUBLIC)
def test_public(host: str) -> None:
    assert not is_private_host(host)


@pytest.mark.parametrize("host", ["minio", "MinIO.", "10.0.0.5", "0xa.0.0.5", "[fd00::1]", "fd00:0::1"])
def test_allowed(host: str) -> None:
    assert not is_private_host(host, ("MINIO", "10.0.0.5", "fd00::1"))
    assert is_private_host(host)


@given(st.from_regex(r"\A(0x[0-9a-f]{1,8}|0[0-7]{0,8}|[0-9]{1,10})(\.(0x[0-9a-f]{1,3}|0[0-7]{0,3}|[0-9]{1,3})){0,3}\Z"))
def test_numbers_read_as_the_system_reads_them(host: str) -> None:
    try:
        address = ipaddress.IPv4Address(socket.inet_aton(host))
    except OSError:
        assert is_private_host(host)
    else:
        assert is_private_host(host) == (not is_public(address))


@given(st.text(max_size=30))
def test_any_text_is_answered(text: str) -> None:
    assert is_private_host(text) in (True, False)
    parse_web_address("http://" + text)
