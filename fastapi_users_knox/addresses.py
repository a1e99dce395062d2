"""Which addresses of clients count as one: an IPv4 address alone, and all addresses of an IPv6 network."""

from ipaddress import IPv6Address, IPv6Network, ip_address

__all__ = ["network_of"]

_PREFIX_LENGTH = 64  # A provider gives each customer at least a /64, so one client can use any address of it.


def network_of(address: str | None) -> str | None:
    """Return an IPv4 address, or the /64 network of an IPv6 address; any other text unchanged.

    An IPv6 address that stands for an IPv4 address (RFC 4291 §2.5.5.2) is returned as the IPv4 address.
    """
    try:
        parsed = ip_address(address or "")
    except ValueError:  # Some servers and test clients report other texts.
        return address or None
    if not isinstance(parsed, IPv6Address):
        return str(parsed)
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(IPv6Network((int(parsed), _PREFIX_LENGTH), strict=False))
