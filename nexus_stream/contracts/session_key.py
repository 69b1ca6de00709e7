"""The session key: the key of every topic and table. It decides a record's partition.

``<session>`` without a tenant, ``<tenant>:<session>`` with one. A tenant never holds a colon, but a session may. Then
an empty tenant is explicit (``:a:b``), so that no two (tenant, session) pairs have the same key.
"""

from __future__ import annotations

import re

__all__ = ["TENANT_PATTERN", "parse_session_key", "session_key"]

TENANT_PATTERN = r"^[A-Za-z0-9_.-]{0,64}$"
_TENANT = re.compile(TENANT_PATTERN)


def session_key(tenant_id: str, session_id: str) -> bytes:
    """The key of a tenant's session, UTF-8.

    Raises:
        ValueError: the tenant is over 64 characters, or holds others than letters, digits, ``_``, ``.`` and ``-``.
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
