"""Hosts as they may be written in an address, and whether they lie outside the public internet."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

_URL = re.compile(r"(https?)://([^/?#\\]*)(.*)", re.IGNORECASE | re.DOTALL)
_AUTHORITY = re.compile(r"(?:([^@]*)@)?(\[[0-9A-Fa-f:.]+\]|[^\[\]:@]+)(?::([0-9]{1,5})?)?", re.ASCII)
_PRIVATE_SUFFIXES = (".localhost", ".localdomain", ".local", ".internal", ".intranet", ".lan", ".home.arpa")
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_NAT64_LOCAL = ipaddress.ip_network("64:ff9b:1::/48")


@dataclass(frozen=True, slots=True)
class WebAddress:
    """An http or https address, taken apart. `rest` is everything after the authority, as it was written."""

    scheme: str
    credentials: str
    host: str
    """Lower case ASCII; an IPv6 address without its brackets."""
    port: int | None
    """None: the scheme's own."""
    rest: str


def parse_web_address(text: str) -> WebAddress | None:
    """None when `text` is no http(s) address that every client would read in the same way."""
    url = _URL.fullmatch(text)
    if not url or url[3].startswith("\\"):
        return None
    found = _AUTHORITY.fullmatch(url[2])
    host = ascii_host(found[2].strip("[]")) if found else None
    if not found or not host:
        return None
    scheme = url[1].lower()
    port = int(found[3]) if found[3] else None
    if port is not None and port > 65535:
        return None
    usual = {"http": 80, "https": 443}[scheme]
    return WebAddress(scheme, found[1] or "", host, None if port == usual else port, url[3])


def ascii_host(host: str) -> str | None:
    """`host` in lower case ASCII without a trailing dot: full-width digits and other spellings become plain ones."""
    try:
        name = host if host.isascii() else host.encode("idna").decode("ascii")
    except UnicodeError:
        return None
    name = name.lower().rstrip(".")
    return name if re.fullmatch(r"[a-z0-9._:-]+", name, re.ASCII) else None


def is_private_host(host: str, allowed: Iterable[str] = ()) -> bool:
    """Whether `host` is an address outside the public internet in any notation, or a name only known inside a network,
    and not `allowed`.

    A public name is not looked up here: the worker checks the address it really connects to.
    """
    name = ascii_host(host.strip("[]").partition("%")[0])
    if name is None:
        return True
    address = _address(name)
    permitted = {a.strip("[]").lower().rstrip(".") for a in allowed}
    if name in permitted or (address and str(address) in permitted):
        return False
    if address:
        return any(not a.is_global or a.is_multicast for a in (address, *_carried(address)))
    last = name.rpartition(".")[2]
    is_number = last.isdigit() or re.fullmatch(r"0x[0-9a-f]*", last) is not None
    return is_number or "." not in name or name.endswith(_PRIVATE_SUFFIXES)


def _address(name: str) -> IPAddress | None:
    if ":" in name:
        try:
            return ipaddress.IPv6Address(name)
        except ValueError:
            return None
    return _ipv4(name)


def _ipv4(name: str) -> ipaddress.IPv4Address | None:
    """As resolvers read it: one to four parts, decimal, octal (0…) or hexadecimal (0x…), the last one filling up."""
    parts = [_number(p) for p in name.split(".")]
    if len(parts) > 4 or any(p is None for p in parts):
        return None
    numbers = [p for p in parts if p is not None]
    value = numbers[-1]
    if value >= 256 ** (5 - len(numbers)) or any(p > 255 for p in numbers[:-1]):
        return None
    for i, part in enumerate(numbers[:-1]):
        value += part << (8 * (3 - i))
    return ipaddress.IPv4Address(value)


def _number(part: str) -> int | None:
    for pattern, base in ((r"0x[0-9a-f]{1,16}", 16), (r"0[0-7]{0,16}", 8), (r"[1-9][0-9]{0,10}", 10)):
        if re.fullmatch(pattern, part, re.ASCII):
            return int(part, base)
    return None


def _carried(address: IPAddress) -> tuple[ipaddress.IPv4Address, ...]:
    """IPv4 addresses that an IPv6 one leads to: mapped, 6to4, Teredo, NAT64."""
    if isinstance(address, ipaddress.IPv4Address):
        return ()
    found = [address.ipv4_mapped, address.sixtofour, *(address.teredo or ())]
    if address in _NAT64 or address in _NAT64_LOCAL or int(address) < 2**32:
        found.append(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
    return tuple(a for a in found if a)
