"""Which address a request counts against."""

import ipaddress

import pytest

from nexus_stream.gateway.client_address import client_bucket


def _packed(address: str) -> bytes:
    return ipaddress.ip_address(address).packed


def test_without_trusted_proxies_the_header_is_ignored() -> None:
    assert client_bucket("192.0.2.1", ["198.51.100.9"], 0) == _packed("192.0.2.1")


@pytest.mark.parametrize(
    ("header", "proxies", "expected"),
    [
        ("198.51.100.9", 1, "198.51.100.9"),
        # The client's own entries are on the left and do not count.
        ("203.0.113.1, 198.51.100.9", 1, "198.51.100.9"),
        ("203.0.113.1, 198.51.100.9, 192.0.2.77", 2, "198.51.100.9"),
        # Fewer entries than proxies: the leftmost.
        ("198.51.100.9", 3, "198.51.100.9"),
        ("198.51.100.9:4711", 1, "198.51.100.9"),
        ("[2001:db8::1]:4711", 1, "2001:db8::"),
    ],
)
def test_the_nth_entry_from_the_right_is_the_client(header: str, proxies: int, expected: str) -> None:
    address = ipaddress.ip_address(expected)
    bucket = address.packed if address.version == 4 else address.packed[:8]
    assert client_bucket("192.0.2.1", [header], proxies) == bucket


def test_several_headers_count_as_one_list() -> None:
    assert client_bucket("192.0.2.1", ["203.0.113.1", "198.51.100.9"], 1) == _packed("198.51.100.9")
    assert client_bucket("192.0.2.1", ["203.0.113.1", "198.51.100.9"], 2) == _packed("203.0.113.1")


@pytest.mark.parametrize("header", ["", "unknown", "not an address", ",", "_hidden", "999.1.1.1"])
def test_an_invalid_address_falls_back_to_the_peer(header: str) -> None:
    assert client_bucket("192.0.2.1", [header], 1) == _packed("192.0.2.1")


def test_one_ipv6_site_is_one_client() -> None:
    assert client_bucket("2001:db8:0:1::1", [], 0) == client_bucket("2001:db8:0:1:ffff::2", [], 0)
    assert client_bucket("2001:db8:0:1::1", [], 0) != client_bucket("2001:db8:0:2::1", [], 0)


def test_an_ipv4_client_on_a_dual_stack_socket_is_itself() -> None:
    assert client_bucket("::ffff:192.0.2.1", [], 0) == _packed("192.0.2.1")


@pytest.mark.parametrize("peer", [None, "", "/run/gateway.sock"])
def test_a_peer_without_address_has_one_bucket(peer: str | None) -> None:
    assert client_bucket(peer, [], 0) == b"unknown"
