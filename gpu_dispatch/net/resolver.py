"""Limits connections to public addresses and to trusted hosts."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from manifests.errors import AddressNotAllowed
from manifests.hosts import host_and_port, is_allowed_host, is_private_host, is_public_address

_THREADS = ThreadPoolExecutor(64, thread_name_prefix="names")
"""A silent name server keeps a thread for half a minute, even after the caller has given up."""


def is_trusted(url: URL, trusted_hosts: Iterable[str]) -> bool:
    """Returns whether `trusted_hosts` ("host" for every port, or "host:port") names the host of `url`."""
    return is_allowed_host(url.raw_host or "", url.port, trusted_hosts)


def check_literal(url: URL) -> None:
    """Raises AddressNotAllowed for a private address in any notation; names are checked when they are resolved."""
    host = url.raw_host or ""
    if is_private_host(host):
        raise address_refused(host, url.port)


def address_refused(host: str, port: int | None) -> AddressNotAllowed:
    listed = host_and_port(host, port) if port else host
    return AddressNotAllowed(
        f"The host {host!r} has a private address and may not be contacted.",
        hint=f'Put the file into the bucket, or allow the host in config.yaml: store.private_hosts: ["{listed}"].',
    )


class SystemResolver(AbstractResolver):
    """Looks names up as the system does, hosts file included, on threads of its own."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Raises OSError."""
        ask = partial(socket.getaddrinfo, host, port, family, socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG)
        found = await asyncio.get_running_loop().run_in_executor(_THREADS, ask)
        flags = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV
        return [
            ResolveResult(hostname=host, host=_literal(address), port=port, family=kind, proto=protocol, flags=flags)
            for kind, _, protocol, _, address in found
        ]

    async def close(self) -> None:
        """Does nothing: nothing is open."""


class PublicResolver(AbstractResolver):
    """Answers with public addresses only; the connection goes to exactly these, whatever the name means later."""

    def __init__(self, names: AbstractResolver | None = None) -> None:
        """`names` looks names up; None: SystemResolver."""
        self._names = names or SystemResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        found = await self._names.resolve(host, port, family)
        public = [entry for entry in found if is_public_address(entry["host"])]
        if found and not public:
            raise address_refused(host, port)
        return public

    async def close(self) -> None:
        await self._names.close()


def _literal(address: tuple[str | int, ...] | tuple[int, bytes]) -> str:
    """Returns the host of a socket's address, with its zone where it has one."""
    zone = address[3] if len(address) == 4 else 0
    return f"{address[0]}%{zone}" if zone and "%" not in str(address[0]) else str(address[0])
