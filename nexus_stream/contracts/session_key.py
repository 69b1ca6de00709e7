"""The session key: the key of every topic and table, and what decides a record's partition.

``<session>`` without a tenant, ``<tenant>:<session>`` with one. A tenant never holds a colon; a session may, and then
an empty tenant is written out (``:a:b``), so that no two (tenant, session) pairs share a key.
"""

from __future__ import annotations

import re

__all__ = ["TENANT_PATTERN", "parse_session_key", "session_key"]

TENANT_PATTERN = r"^[A-Za-z0-9_.-]{0,64}$"
_TENANT = re.compile(TENANT_PATTERN)


def session_key(tenant_id: str, session_id: str) -> bytes:
    """The key of a tenant's session, UTF-8.

    Raises:
        ValueError: the tenant holds a character outside letters, digits, ``_``, ``.`` and ``-``, or is over 64 long.
    """
    if not _TENANT.fullmatch(tenant_id):
        raise ValueError("tenant_id: letters, digits, '_', '.' and '-' only, at most 64")
    if tenant_id or ":" in session_id:
        return f"{tenant_id}:{session_id}".encode()
    return session_id.encode()


def parse_session_key(key: bytes) -> tuple[str, str]:
    """The (tenant, session) of a key made by `session_key`."""
    tenant_id, colon, session_id = key.decode().partition(":")
    return (tenant_id, session_id) if colon else ("", tenant_id)
