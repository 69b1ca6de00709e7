"""The keys of the site's own servers. A request with a key may name its tenant and its visitor's address.

From: ``NEXUS_GATEWAY_SERVER_KEYS``, which holds only hashes; `nexus gateway key` makes a key. The header is our own and
not ``Authorization``: sites and proxies send that one for other reasons, and a foreign token must not refuse a lead.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Mapping

__all__ = ["SERVER_KEY_HEADER", "ServerKeys", "key_hash", "new_key"]

SERVER_KEY_HEADER = "x-nexus-server-key"

# Secret scanners and people recognise a key by it.
_PREFIX = "nxk_"
_KEY_BYTES = 32


def new_key() -> str:
    """Make a key: 256 random bits."""
    return _PREFIX + secrets.token_urlsafe(_KEY_BYTES)


def key_hash(key: str) -> str:
    """SHA-256 of a key, in hex. A key is random, so a plain hash is enough."""
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()


class ServerKeys:
    """The keys that are accepted now.

    Args:
        hashes: Name -> hash in hex. Several names make a rotation without a pause possible.
    """

    def __init__(self, hashes: Mapping[str, str]) -> None:
        self._hashes = tuple(hashes.items())

    def __bool__(self) -> bool:
        """Whether there is a key at all."""
        return bool(self._hashes)

    def name_of(self, key: str) -> str | None:
        """The name of this key; None if it is not accepted. The time does not depend on which key it is."""
        sent = key_hash(key)
        matching = [name for name, accepted in self._hashes if hmac.compare_digest(sent, accepted)]
        return matching[0] if matching else None
