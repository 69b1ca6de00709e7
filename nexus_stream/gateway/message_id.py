"""Message ids as the existing site's: nanoid, 21 characters of its URL-safe alphabet.

The alphabet is nanoid's own (github.com/ai/nanoid, ``url-alphabet``): 64 characters, so six random bits choose one
without bias and 21 of them hold 126 bits.
"""

from __future__ import annotations

import secrets

__all__ = ["ALPHABET", "LENGTH", "message_id"]

ALPHABET = "useandom-26T198340PX75pxJACKVERYMINDBUSHWOLF_GQZbfghjklqvwyzrict"
LENGTH = 21


def message_id() -> str:
    """A new random id."""
    return "".join([ALPHABET[byte & 63] for byte in secrets.token_bytes(LENGTH)])
