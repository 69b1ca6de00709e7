"""Find the client that a request counts against: the connected peer, or the client that a trusted proxy names.

Anyone can send an ``X-Forwarded-For`` header, so only the last entries count: the trusted proxies appended them.
With N trusted proxies the client is the Nth entry from the right. Addresses are never logged.
"""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address

__all__ = ["address_bucket", "client_bucket"]

_UNKNOWN = b"unknown"
# A visitor gets a /64 and may use any address in it (RFC 6177).
_IPV6_SITE_BYTES = 8


def client_bucket(peer: str | None, forwarded_for: Sequence[str], trusted_proxies: int) -> bytes:
    """The client's address as a key for the rate limiter.

    Args:
        peer: Address of the connected peer.
        forwarded_for: Every ``X-Forwarded-For`` header, in order.
        trusted_proxies: Number of the operator's own proxies in front of the gateway.

    Returns:
        The packed IPv4 address, or an IPv6 address's /64.
    """
    address = _parse(peer)
    if trusted_proxies:
        hops = [hop for header in forwarded_for for hop in header.split(",")]
        # If there are fewer entries than proxies, a trusted proxy still appended the leftmost one.
        for hop in reversed(hops[-trusted_proxies:]):
            parsed = _parse(hop.strip())
            if parsed is None:
                break
            address = parsed
    return _UNKNOWN if address is None else _packed(address)


def address_bucket(named: str) -> bytes | None:
    """The key of an address that a trusted server names; None if it is no address.

    Args:
        named: An address, or a list of them as in ``X-Forwarded-For``: then the first one is the visitor's.
    """
    address = _parse(named.partition(",")[0].strip())
    return None if address is None else _packed(address)


def _packed(address: IPv4Address | IPv6Address) -> bytes:
    return address.packed[:_IPV6_SITE_BYTES] if isinstance(address, IPv6Address) else address.packed


def _parse(text: str | None) -> IPv4Address | IPv6Address | None:
    if not text:
        return None
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        # Some proxies append the port.
        text = text.partition(":")[0]
    try:
        address = ip_address(text)
    except ValueError:
        return None
    # On a dual-stack socket every IPv4 client has a mapped IPv6 address: all of them would share one /64 bucket.
    return getattr(address, "ipv4_mapped", None) or address
