"""Message ids like the existing site's: nanoid, 21 characters of its URL-safe alphabet. The last four are a checksum.

The alphabet is nanoid's own (github.com/ai/nanoid, ``url-alphabet``): 64 characters, so six random bits choose one
without bias, and 17 characters hold 102 bits. With the checksum every process can recognise the gateway's ids. Another
producer may write anything into the same header, also a name or a number. So logs show the gateway's ids unchanged, and
other values as a hash (observability/event_lines.py). The checksum is not a signature: anyone can make a valid one.
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
    """Whether a gateway made the id. One of 16 million other values passes too."""
    return (
        len(correlation_id) == LENGTH
        and _check(correlation_id[:-_CHECK_LENGTH]).encode() == correlation_id[-_CHECK_LENGTH:]
    )


def _check(random: bytes) -> str:
    return "".join([ALPHABET[byte & 63] for byte in hashlib.sha256(b"nexus-stream " + random).digest()[:_CHECK_LENGTH]])
