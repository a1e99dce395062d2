"""Which addresses of clients count as one: an IPv4 address alone, and all addresses of an IPv6 network."""

import re
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address

__all__ = ["network_of"]

_NAT64 = IPv6Network("64:ff9b::/96")  # RFC 6052 §2.1
_WITH_PORT = re.compile(r"\[([^\]]*)\](?::\d+)?|([^:]*):\d+")
_PREFIX_LENGTH = 64  # A provider gives each customer at least a /64, so one client can use any address of it.


def network_of(address: str | None) -> str | None:
    """Return an IPv4 address, or the /64 network of an IPv6 address; any other text unchanged.

    An IPv6 address that stands for an IPv4 address (RFC 4291 §2.5.5.2, RFC 6052) is returned as the IPv4 address. A
    port, which some proxies add, is left out.
    """
    with_port = _WITH_PORT.fullmatch(address or "")
    if with_port is not None:
        address = with_port[1] or with_port[2]
    try:
        parsed = ip_address(address or "")
    except ValueError:  # Some servers and test clients report other texts.
        return address or None
    if not isinstance(parsed, IPv6Address):
        return str(parsed)
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    if parsed in _NAT64:
        return str(IPv4Address(int(parsed) & 0xFFFFFFFF))
    return str(IPv6Network((int(parsed), _PREFIX_LENGTH), strict=False))
