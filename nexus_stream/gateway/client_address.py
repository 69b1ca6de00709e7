"""Which client a request is counted against: the peer, or who a trusted proxy says it is.

``X-Forwarded-For`` is written by anyone: only the entries that our own proxies appended count, which are the last ones.
With N trusted proxies the client is the Nth entry from the right. Addresses are used here and never logged.
"""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address

__all__ = ["client_bucket"]

_UNKNOWN = b"unknown"
# A site's visitors get a /64 each and may choose any address in it (RFC 6177).
_IPV6_SITE_BYTES = 8


def client_bucket(peer: str | None, forwarded_for: Sequence[str], trusted_proxies: int) -> bytes:
    """The client's address as a key for the rate limiter.

    Args:
        peer: The address that connected.
        forwarded_for: Every ``X-Forwarded-For`` header, in order.
        trusted_proxies: How many proxies of ours stand in front.

    Returns:
        The packed IPv4 address, or an IPv6 address's /64.
    """
    address = _parse(peer)
    if trusted_proxies:
        hops = [hop for header in forwarded_for for hop in header.split(",")]
        # Fewer entries than proxies: the leftmost one was still appended by a trusted proxy.
        for hop in reversed(hops[-trusted_proxies:]):
            parsed = _parse(hop.strip())
            if parsed is None:
                break
            address = parsed
    if address is None:
        return _UNKNOWN
    if isinstance(address, IPv6Address):
        return address.packed[:_IPV6_SITE_BYTES]
    return address.packed


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
    # An IPv4 client on a dual-stack socket must not share a bucket with all others.
    return getattr(address, "ipv4_mapped", None) or address
