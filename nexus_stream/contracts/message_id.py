"""Message ids as the existing site's: nanoid, 21 characters of its URL-safe alphabet. The last four check the others.

The alphabet is nanoid's own (github.com/ai/nanoid, ``url-alphabet``): 64 characters, so six random bits choose one
without bias and 17 of them hold 102 bits. By the check every process can tell an id of ours from what another producer
wrote into the same header, which may be anything, a name or a number too: logs show ours as they are, and others as a
hash (observability/event_lines.py). It is no signature: who wants to can make one.
"""

from __future__ import annotations

import hashlib
import secrets

__all__ = ["ALPHABET", "LENGTH", "is_ours", "message_id"]

ALPHABET = "useandom-26T198340PX75pxJACKVERYMINDBUSHWOLF_GQZbfghjklqvwyzrict"
LENGTH = 21
_CHECK_LENGTH = 4


def message_id() -> str:
    """A new random id."""
    random = "".join([ALPHABET[byte & 63] for byte in secrets.token_bytes(LENGTH - _CHECK_LENGTH)])
    return random + _check(random.encode())


def is_ours(correlation_id: bytes) -> bool:
    """Whether a gateway made it; of what others write one in 16 million passes for it."""
    return (
        len(correlation_id) == LENGTH
        and _check(correlation_id[:-_CHECK_LENGTH]).encode() == correlation_id[-_CHECK_LENGTH:]
    )


def _check(random: bytes) -> str:
    return "".join([ALPHABET[byte & 63] for byte in hashlib.sha256(b"nexus-stream " + random).digest()[:_CHECK_LENGTH]])
