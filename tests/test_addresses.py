"""Which addresses count as one client."""

from ipaddress import IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastapi_users_knox.addresses import network_of


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2::1", "2001:db8:1:2::/64"),
        ("2001:0DB8:0001:0002:ffff:ffff:ffff:ffff", "2001:db8:1:2::/64"),
        ("2001:db8:1:3::1", "2001:db8:1:3::/64"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("::ffff:c000:201", "192.0.2.1"),
        ("fe80::1%eth0", "fe80::/64"),
        ("64:ff9b::192.0.2.1", "192.0.2.1"),
        ("192.0.2.1:40001", "192.0.2.1"),
        ("[2001:db8:1:2::1]:443", "2001:db8:1:2::/64"),
        ("[2001:db8:1:2::1]", "2001:db8:1:2::/64"),
        ("testclient", "testclient"),
        ("", None),
        (None, None),
    ],
)
def test_an_address_is_counted_by_its_network(address: str | None, network: str | None) -> None:
    """An IPv6 address counts as its /64, an IPv4 address written as IPv6 as the IPv4 address, other texts as such."""
    assert network_of(address) == network


@given(st.integers(1, 2**64 - 1), st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1))
def test_a_client_cannot_leave_its_network(prefix: int, one: int, other: int) -> None:
    """All addresses of an IPv6 network of 64 bits count as one, and those of another network do not."""
    networks = [network_of(str(IPv6Address(high << 64 | low))) for high, low in [(prefix, one), (prefix, other)]]
    elsewhere = network_of(str(IPv6Address((prefix ^ 2) << 64 | one)))

    assert networks[0] == networks[1]
    assert elsewhere != networks[0]
