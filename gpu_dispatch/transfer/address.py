"""Which addresses the worker may connect to: public ones, and the hosts a task trusts."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterable

from aiohttp import ThreadedResolver
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from manifests.errors import AddressNotAllowed
from manifests.media import is_private_host

_NAT64 = ipaddress.ip_network("64:ff9b::/96")

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def is_public(address: str) -> bool:
    """Whether the literal `address` lies in the public internet, also through every IPv4 address carried inside it."""
    parsed = ipaddress.ip_address(address.partition("%")[0])
    return all(a.is_global and not a.is_multicast for a in (parsed, *_carried(parsed)))


def is_trusted(url: URL, trusted_hosts: Iterable[str]) -> bool:
    """Whether `trusted_hosts` ("host" for every port, or "host:port") names the host of `url`."""
    host = (url.host or "").lower()
    literal = f"[{host}]" if ":" in host else host
    names = {host, literal, f"{literal}:{url.port}"}
    return any(entry.lower() in names for entry in trusted_hosts)


def check_literal(url: URL) -> None:
    """Refuses a host that is written as a private address, in whatever notation; names are checked when resolved."""
    host = url.host or ""
    if is_private_host(host) or (_is_literal(host) and not is_public(host)):
        raise refused(host)


def refused(host: str) -> AddressNotAllowed:
    return AddressNotAllowed(
        f"The host {host!r} has a private address and may not be contacted.",
        hint="Put the file into the bucket, or add the host to store.private_hosts in config.yaml.",
    )


class PublicResolver(AbstractResolver):
    """Answers with public addresses only. The connection goes to exactly these, so a name cannot change under it."""

    def __init__(self) -> None:
        self._names = ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        found = await self._names.resolve(host, port, family)
        public = [entry for entry in found if is_public(entry["host"])]
        if found and not public:
            raise refused(host)
        return public

    async def close(self) -> None:
        await self._names.close()


def _carried(address: Address) -> tuple[Address, ...]:
    if isinstance(address, ipaddress.IPv4Address):
        return ()
    inside: list[Address | None] = [address.ipv4_mapped, address.sixtofour]
    if address.teredo:
        inside.append(address.teredo[1])
    if address in _NAT64:
        inside.append(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
    return tuple(a for a in inside if a is not None)


def _is_literal(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
