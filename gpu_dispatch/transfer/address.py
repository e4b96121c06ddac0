"""Where a connection may go: to public addresses, and to the hosts a task trusts."""

from __future__ import annotations

import socket
from collections.abc import Iterable

from aiohttp import ThreadedResolver
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from manifests.errors import AddressNotAllowed
from manifests.hosts import host_and_port, is_allowed_host, is_private_host, is_public_address


def is_trusted(url: URL, trusted_hosts: Iterable[str]) -> bool:
    """Whether `trusted_hosts` ("host" for every port, or "host:port") names the host of `url`."""
    return is_allowed_host(url.raw_host or "", url.port, trusted_hosts)


def check_literal(url: URL) -> None:
    """Refuses a host that is written as a private address, in whatever notation; names are checked when resolved."""
    host = url.raw_host or ""
    if is_private_host(host):
        raise refused(host, url.port)


def refused(host: str, port: int | None) -> AddressNotAllowed:
    listed = host_and_port(host, port) if port else host
    return AddressNotAllowed(
        f"The host {host!r} has a private address and may not be contacted.",
        hint=f'Put the file into the bucket, or allow the host in config.yaml: store.private_hosts: ["{listed}"].',
    )


class PublicResolver(AbstractResolver):
    """Answers with public addresses only. The connection goes to exactly these, so a name cannot change under it."""

    def __init__(self, names: AbstractResolver | None = None) -> None:
        """`names` looks names up; None: the system's way."""
        self._names = names or ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        found = await self._names.resolve(host, port, family)
        public = [entry for entry in found if is_public_address(entry["host"])]
        if found and not public:
            raise refused(host, port)
        return public

    async def close(self) -> None:
        await self._names.close()
