"""Hosts as addresses write them, and whether they lie outside the public internet."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import quote, unquote

_URL = re.compile(r"(https?)://([^/?#\\]*)(.*)", re.IGNORECASE | re.DOTALL)
_AUTHORITY = re.compile(r"(?:([^@]*)@)?(\[[0-9A-Fa-f:.]+\]|[^\[\]:@]+)(?::([0-9]{1,5})?)?", re.ASCII)
_LISTED = re.compile(r"(\[[^\]]*\]|[^\[\]:]*|[^\[\]:]*:[^\[\]]*:[^\[\]]*)(?::([0-9]{1,5}))?", re.ASCII)
"""A host, or host:port; an IPv6 address has brackets, or none when no port follows."""
_PRIVATE_SUFFIXES = (".localhost", ".localdomain", ".local", ".internal", ".intranet", ".lan", ".home.arpa")
_MAX_HOST = 1000
"""Characters; IDNA makes several of one that is not ASCII."""
_USUAL_PORTS = {"http": 80, "https": 443}
_BARE_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")
_SAFE_IN_URL = "%/:?#[]@!$&'()*+,;=-._~"

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
IPNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network

_IPV4: dict[str, str] = {
    "0.0.0.0/8": "RFC 791 (this network)",
    "10.0.0.0/8": "RFC 1918 (private use)",
    "100.64.0.0/10": "RFC 6598 (shared address space)",
    "127.0.0.0/8": "RFC 1122 (loopback)",
    "168.63.129.16/32": "Azure (the machine's host: wire server, DHCP, DNS)",
    "169.254.0.0/16": "RFC 3927 (link-local; metadata services)",
    "172.16.0.0/12": "RFC 1918 (private use)",
    "192.0.0.0/24": "RFC 6890 (protocol assignments)",
    "192.0.2.0/24": "RFC 5737 (documentation)",
    "192.31.196.0/24": "RFC 7535 (AS112)",
    "192.52.193.0/24": "RFC 7450 (multicast tunnels)",
    "192.88.99.0/24": "RFC 7526 (6to4 relays, withdrawn)",
    "192.168.0.0/16": "RFC 1918 (private use)",
    "192.175.48.0/24": "RFC 7534 (AS112)",
    "198.18.0.0/15": "RFC 2544 (benchmarks)",
    "198.51.100.0/24": "RFC 5737 (documentation)",
    "203.0.113.0/24": "RFC 5737 (documentation)",
    "224.0.0.0/4": "RFC 5771 (multicast)",
    "240.0.0.0/4": "RFC 1112 (reserved; broadcast)",
}
_IPV6: dict[str, str] = {
    "::/8": "RFC 4291 (unspecified, loopback, IPv4-compatible, translated; NAT64 for local use: RFC 8215)",
    "100::/8": "RFC 6666 (discard), RFC 9780 (dummy)",
    "200::/7": "RFC 4048 (withdrawn)",
    "400::/6": "RFC 4291 (unassigned)",
    "800::/5": "RFC 4291 (unassigned)",
    "1000::/4": "RFC 4291 (unassigned)",
    "2001::/23": "RFC 2928 (protocol assignments: Teredo, benchmarks, ORCHID, AMT)",
    "2001:db8::/32": "RFC 3849 (documentation)",
    "2620:4f:8000::/48": "RFC 7534 (AS112)",
    "3fff::/20": "RFC 9637 (documentation)",
    "4000::/2": "RFC 4291 (unassigned; segment routing: RFC 9602)",
    "8000::/1": "RFC 4291 (unassigned; local: RFC 4193, link-local, site-local: RFC 3879, multicast)",
}

SPECIAL_RANGES: tuple[tuple[IPNetwork, str], ...] = tuple(
    (ipaddress.ip_network(network), source) for network, source in {**_IPV4, **_IPV6}.items()
)
"""The ranges outside the public internet, with the documents that reserve them.

Source: IANA's registries of special-purpose addresses for IPv4 and IPv6 and of IPv6 address space. Two kinds are added:
ranges that IANA calls globally reachable but that hold no file server (anycast relays, AS112), and the address at which
cloud machines find their host.
"""

_MAPPED = ipaddress.IPv6Network("::ffff:0:0/96")
"""RFC 4291: an IPv4 address as IPv6 programs write it."""
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
"""RFC 6052: an IPv4 address behind a translator."""
_6TO4 = ipaddress.IPv6Network("2002::/16")
"""RFC 3056: the network of an IPv4 address, in bits 16 to 47."""
_ISATAP = frozenset({0x00005EFE, 0x02005EFE})
"""RFC 5214: bits 64 to 95 of an address in any network whose last 32 bits are an IPv4 address."""


@dataclass(frozen=True, slots=True)
class WebAddress:
    """The parts of an http or https address."""

    scheme: str
    credentials: str
    host: str
    """Lower-case ASCII; an IPv6 address without its brackets."""
    port: int | None
    """None: the scheme's default."""
    rest: str
    """Everything after the authority, as written."""

    @property
    def real_port(self) -> int:
        return self.port if self.port is not None else _USUAL_PORTS[self.scheme]

    @property
    def host_and_port(self) -> str:
        return host_and_port(self.host, self.real_port)

    @property
    def url(self) -> str:
        """The spelling that every client reads the same way: ASCII, with everything encoded that must be."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        port = f":{self.port}" if self.port is not None else ""
        credentials = quote(self.credentials, safe="%:!$&'()*+,;=-._~") + "@" if self.credentials else ""
        rest = quote(_BARE_PERCENT.sub("%25", self.rest), safe=_SAFE_IN_URL, errors="surrogatepass")
        return f"{self.scheme}://{credentials}{host}{port}{rest}"


def parse_web_address(text: str) -> WebAddress | None:
    """Parses an http(s) address; None when clients would not all read it the same way."""
    url = None if any(ord(c) < 32 or ord(c) == 127 for c in text) else _URL.fullmatch(text)
    if not url or url[3].startswith("\\"):
        return None
    found = _AUTHORITY.fullmatch(url[2])
    host = ascii_host(found[2].strip("[]")) if found else None
    if not found or not host or found[2].startswith("[") != (":" in host):
        return None
    if ":" in host and _address(host) is None:
        return None
    credentials = found[1] or ""
    if not _can_be_sent(credentials) or "[" in credentials or "]" in credentials:
        return None
    scheme = url[1].lower()
    port = int(found[3]) if found[3] else None
    if port is not None and not 0 < port <= 65535:
        return None
    return WebAddress(scheme, credentials, host, None if port == _USUAL_PORTS[scheme] else port, url[3])


def _can_be_sent(credentials: str) -> bool:
    """Returns whether a header holds `credentials`: RFC 7617 permits no colon in the user, clients write Latin-1."""
    user, _, password = (unquote(part, errors="ignore") for part in credentials.partition(":"))
    return ":" not in user and all(ord(c) < 256 for c in user + password)


def ascii_host(host: str) -> str | None:
    """Converts `host` to lower-case ASCII without a trailing dot; full-width digits and the like become plain ones.

    Returns None for what no resolver accepts: other characters, an empty label or one over 63 characters, over 253 in
    all.
    """
    if len(host) > _MAX_HOST:
        return None
    try:
        name = host if host.isascii() else host.encode("idna").decode("ascii")
    except UnicodeError:
        return None
    name = name.lower().removesuffix(".")
    if not re.fullmatch(r"[a-z0-9._:-]+", name, re.ASCII) or len(name) > 253:
        return None
    return name if ":" in name or all(0 < len(label) <= 63 for label in name.split(".")) else None


def host_and_port(host: str, port: int) -> str:
    """Formats a host and port as `private_hosts` lists them: "n8n:5678", "[fd00::1]:443"."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def is_allowed_host(host: str, port: int | None, allowed: Iterable[str]) -> bool:
    """Returns whether one of `allowed` ("host" for every port, or "host:port") names `host`, in any notation.

    Without a `port`, only entries without one count.
    """
    name = _plain(host)
    return name is not None and any(
        (found := _LISTED.fullmatch(entry.strip())) is not None
        and _plain(found[1]) == name
        and (found[2] is None or int(found[2]) == port)
        for entry in allowed
    )


def is_private_host(host: str, allowed: Iterable[str] = (), port: int | None = None) -> bool:
    """Returns whether `host` is private or unusable, and not `allowed` (with this `port`).

    Private is an address outside the public internet in any notation, or a name known only inside a network. A public
    name is not resolved here: the code that connects checks its address with `is_public_address`.
    """
    name = _plain(host)
    if name is None:
        return True
    if is_allowed_host(name, port, allowed):
        return False
    address = _address(name)
    if address:
        return not is_public(address)
    last = name.rpartition(".")[2]
    is_number = last.isdigit() or re.fullmatch(r"0x[0-9a-f]*", last) is not None
    return ":" in name or is_number or "." not in name or name.endswith(_PRIVATE_SUFFIXES)


def is_public_address(text: str) -> bool:
    """Returns whether the literal `text`, as a resolver gives it, is public with every address embedded in it."""
    address = _address(text.partition("%")[0])
    return address is not None and is_public(address)


def _plain(host: str) -> str | None:
    """Returns one spelling for all notations of a host: no brackets, zone or trailing dot, addresses in usual form."""
    name = ascii_host(host.strip("[]").partition("%")[0])
    address = _address(name) if name else None
    return str(address) if address else name


def _address(name: str) -> IPAddress | None:
    if ":" in name:
        try:
            return ipaddress.IPv6Address(name)
        except ValueError:
            return None
    return _ipv4(name)


def _ipv4(name: str) -> ipaddress.IPv4Address | None:
    """Parses as resolvers do: one to four parts, decimal, octal (0…) or hexadecimal (0x…), the last one filling up."""
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


def is_public(address: IPAddress) -> bool:
    """Returns whether `address`, and every IPv4 address embedded in it, lies in the public internet."""
    if isinstance(address, ipaddress.IPv4Address):
        return not _is_special(address)
    if address in _MAPPED or address in _NAT64:
        return is_public(_low_bits(address))
    if address in _6TO4 and not is_public(ipaddress.IPv4Address(int(address) >> 80 & 0xFFFFFFFF)):
        return False
    if int(address) >> 32 & 0xFFFFFFFF in _ISATAP and not is_public(_low_bits(address)):
        return False
    return not _is_special(address)


def _is_special(address: IPAddress) -> bool:
    return any(address in network for network, _ in SPECIAL_RANGES)


def _low_bits(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address:
    return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
