"""The ranges of IP addresses outside the public internet, with the documents that set them aside.

Taken from IANA's registries of special-purpose addresses for IPv4 and IPv6 and of IPv6 address space. Ranges that IANA
calls globally reachable, but that no server for files has an address in (anycast relays, AS112), stand here too, and
the public address at which every machine of a cloud finds its host.
"""

from __future__ import annotations

import ipaddress

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

_MAPPED = ipaddress.IPv6Network("::ffff:0:0/96")
"""RFC 4291: an IPv4 address as IPv6 programs write it."""
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
"""RFC 6052: an IPv4 address behind a translator."""
_6TO4 = ipaddress.IPv6Network("2002::/16")
"""RFC 3056: the network of an IPv4 address, which stands in bits 16 to 47."""
_ISATAP = frozenset({0x00005EFE, 0x02005EFE})
"""RFC 5214: the second half of an address in any network whose last 32 bits are an IPv4 address."""


def is_public(address: IPAddress) -> bool:
    """Whether `address` lies in the public internet, and every IPv4 address that it leads to."""
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
