"""One guard for literals and for what names resolve to: every special range, in every notation."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterator

import pytest
from aiohttp.abc import AbstractResolver, ResolveResult
from hypothesis import given
from hypothesis import strategies as st
from yarl import URL

from gpu_dispatch.net.resolver import PublicResolver, check_literal
from manifests.errors import AddressNotAllowed, InvalidPath
from manifests.hosts import SPECIAL_RANGES, is_allowed_host, is_private_host, is_public, is_public_address
from manifests.references import ReferencePolicy, UrlRef, resolve_reference

SPECIAL_V4 = [
    "0.0.0.0", "0.1.2.3", "10.0.0.1", "10.255.255.255", "100.64.0.1", "100.127.255.255", "127.0.0.1", "127.255.0.9",
    "168.63.129.16", "169.254.169.254", "172.16.0.1", "172.31.255.255", "192.0.0.1", "192.0.0.170", "192.0.2.1",
    "192.31.196.1", "192.52.193.1", "192.88.99.1", "192.168.0.1", "192.175.48.1", "198.18.0.1", "198.19.255.255",
    "198.51.100.1", "100.100.100.200", "192.0.0.192", "203.0.113.1", "224.0.0.1", "239.255.255.250", "240.0.0.1",
    "255.255.255.255",
]  # fmt: skip
PUBLIC_V4 = ["1.1.1.1", "8.8.8.8", "100.63.255.255", "100.128.0.0", "172.15.0.1", "172.32.0.1", "223.255.255.255"]
SPECIAL_V6 = [
    "::", "::1", "::2", "1::1", "64:ff9b:1::808:808", "64:ff9b:2::1", "100::1", "100:0:0:1::1", "2001::1", "2001:1::1",
    "2001:2::1", "2001:3::1", "2001:4:112::1", "2001:10::1", "2001:20::1", "2001:30::1", "2001:1ff::1", "2001:db8::1",
    "2620:4f:8000::1", "3fff::1", "3fff:fff::1", "4000::1", "5f00::1", "fc00::1", "fd12::1", "fe80::1", "febf::1",
    "fd00:ec2::254", "fec0::1", "feff::1", "ff02::1", "ff0e::1", "::ffff:0:8.8.8.8", "::8.8.8.8",
]  # fmt: skip
PUBLIC_V6 = ["2606:4700::1111", "2a00:1450::1", "2001:200::1", "2001:4860:4860::8888", "2620:fe::fe", "3ffe::1"]


def embeddings(v4: str) -> Iterator[str]:
    """The IPv6 addresses that lead to an IPv4 one."""
    n = int(ipaddress.IPv4Address(v4))
    high, low = f"{n >> 16:x}", f"{n & 0xFFFF:x}"
    inverted = n ^ 0xFFFFFFFF
    yield f"::ffff:{v4}"
    yield f"::ffff:{high}:{low}"
    yield f"::{high}:{low}"
    yield f"::ffff:0:{high}:{low}"
    yield f"64:ff9b::{high}:{low}"
    yield f"64:ff9b:1::{high}:{low}"
    yield f"64:ff9b:1:abcd::{v4}"
    yield f"2002:{high}:{low}::1"
    yield f"2001:0:808:808::{inverted >> 16:x}:{inverted & 0xFFFF:x}"
    yield f"2606:4700::5efe:{high}:{low}"
    yield f"2606:4700::200:5efe:{v4}"
    yield f"fe80::5efe:{v4}"


def notations(v4: str) -> Iterator[str]:
    """An IPv4 address as `inet_aton` and IDNA read it."""
    a, b, c, d = (int(part) for part in v4.split("."))
    n = int(ipaddress.IPv4Address(v4))
    yield from (v4, v4 + ".", str(n), hex(n), f"0{n:o}", f"0X{n:08X}", f"0x{n:016x}")
    yield from (f"{a}.{n & 0xFFFFFF}", f"{a}.{b}.{n & 0xFFFF}", f"{a:#x}.{b:#o}".replace("0o", "0") + f".{c}.{d}")
    yield from (f"0{a:o}.0{b:o}.0{c:o}.0{d:o}", f"00{a:o}.{b}.{c}.{d}", f"{a:#x}.{b:#x}.{c:#x}.{d:#x}")
    yield v4.translate({ord(str(digit)): 0xFF10 + digit for digit in range(10)})
    yield v4.replace(".", "。")
    yield v4.replace(".", "．")


def resolves_to(*addresses: str) -> PublicResolver:
    """The guard in front of a name server that knows one name."""

    class Names(AbstractResolver):
        async def resolve(
            self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
        ) -> list[ResolveResult]:
            return [ResolveResult(hostname=host, host=a, port=port, family=family, proto=0, flags=0) for a in addresses]

        async def close(self) -> None:
            pass

    return PublicResolver(Names())


async def refused_everywhere(address: str) -> bool:
    """As a literal in a manifest, as a literal on the way out, and as what a name leads to."""
    literal = f"[{address}]" if ":" in address else address
    with pytest.raises((AddressNotAllowed, InvalidPath)):
        resolve_reference(f"http://{literal}:8080/a.mp3", bucket="b", folder="", policy=ReferencePolicy())
    with pytest.raises(AddressNotAllowed):
        check_literal(URL(f"http://{literal}:8080/"))
    with pytest.raises(AddressNotAllowed):
        await resolves_to(address).resolve("name.example")
    return not is_public_address(address) and is_private_host(address) and is_private_host(literal)


@pytest.mark.parametrize("address", [*SPECIAL_V4, *SPECIAL_V6])
async def test_no_special_range_is_contacted(address: str) -> None:
    assert await refused_everywhere(address)


@pytest.mark.parametrize("v4", SPECIAL_V4)
async def test_no_ipv6_address_leads_to_a_special_ipv4_one(v4: str) -> None:
    for address in embeddings(v4):
        assert await refused_everywhere(address), address


@pytest.mark.parametrize("v4", SPECIAL_V4)
def test_no_notation_of_a_special_address_is_contacted(v4: str) -> None:
    for text in notations(v4):
        assert is_private_host(text), text
        for url in (f"http://{text}/a.mp3", f"http://user:word@{text}:8080/a.mp3"):
            with pytest.raises((AddressNotAllowed, InvalidPath)):
                resolve_reference(url, bucket="b", folder="", policy=ReferencePolicy())


@pytest.mark.parametrize("address", ["fe80::1%eth0", "fec0::1%1", "::1%lo", "::ffff:127.0.0.1%1"])
async def test_a_zone_does_not_hide_an_address(address: str) -> None:
    assert is_private_host(address)
    assert not is_public_address(address)
    with pytest.raises(AddressNotAllowed):
        await resolves_to(address).resolve("name.example")


@pytest.mark.parametrize("address", [*PUBLIC_V4, *PUBLIC_V6, "64:ff9b::808:808", "::ffff:8.8.8.8", "2002:808:808::1"])
async def test_public_addresses_are_contacted(address: str) -> None:
    literal = f"[{address}]" if ":" in address else address
    assert is_public_address(address)
    assert not is_private_host(address)
    check_literal(URL(f"http://{literal}/"))
    assert [entry["host"] for entry in await resolves_to(address).resolve("name.example")] == [address]
    assert isinstance(
        resolve_reference(f"http://{literal}/a.mp3", bucket="b", folder="", policy=ReferencePolicy()), UrlRef
    )


async def test_a_name_of_this_machine_is_refused() -> None:
    with pytest.raises(AddressNotAllowed, match="localhost"):
        await PublicResolver().resolve("localhost", 80)


async def test_only_the_public_addresses_of_a_name_are_used() -> None:
    found = await resolves_to("10.0.0.1", "8.8.8.8", "::7f00:1", "fec0::1").resolve("name.example")
    assert [entry["host"] for entry in found] == ["8.8.8.8"]


@given(st.integers(0, 2**32 - 1).map(ipaddress.IPv4Address))
def test_what_python_calls_private_is_refused(address: ipaddress.IPv4Address) -> None:
    if not address.is_global or address.is_multicast:
        assert not is_public(address)


@given(st.integers(0, 2**128 - 1).map(ipaddress.IPv6Address))
def test_only_global_unicast_is_contacted(address: ipaddress.IPv6Address) -> None:
    if int(address) >> 125 != 1:
        assert not is_public(address)


def test_every_range_says_where_it_stands() -> None:
    assert all(source.startswith(("RFC", "Azure")) for _, source in SPECIAL_RANGES)


@pytest.mark.parametrize(
    ("host", "port", "listed"),
    [
        ("10.0.0.5", 5678, "10.0.0.5:5678"), ("0xa.0.0.5", 5678, "10.0.0.5"), ("10.0.0.5", 80, "10.5"),
        ("fd00:0::1", 443, "[fd00::1]:443"), ("fd00::1", 443, "fd00::1"), ("fd00::1", 443, "[FD00::1]"),
        ("n8n", 5678, "N8N.:5678"), ("n8n.", 80, "n8n"),
    ],
)  # fmt: skip
def test_a_listed_host_may_be_private(host: str, port: int, listed: str) -> None:
    assert is_allowed_host(host, port, [listed])
    literal = f"[{host}]" if ":" in host else host
    policy = ReferencePolicy(private_hosts=frozenset({listed}))
    assert isinstance(resolve_reference(f"http://{literal}:{port}/a.mp3", bucket="b", folder="", policy=policy), UrlRef)


@pytest.mark.parametrize(
    ("host", "port", "listed"),
    [("10.0.0.5", 5679, "10.0.0.5:5678"), ("10.0.0.6", 80, "10.0.0.5"), ("n8n.evil.example", 80, "n8n"), ("", 80, "")],
)
def test_nothing_else_is_listed(host: str, port: int, listed: str) -> None:
    assert not is_allowed_host(host, port, [listed])
