"""Ids, hashes and moments in erased events and session commands, and the hash of an erased session or fingerprint.

PostgreSQL sets the patterns: a value that the database refuses must be refused where the record is read.

Python and SQL (``nexus_subject_hash``) compute the same hash, so the enricher, the sink and the database agree. The
hash has no salt: it is computed again from the id when the browser comes back. Session ids and fingerprints are long
random text. E-mail addresses and phone numbers can be guessed, so no suppression holds their hash.
"""

from __future__ import annotations

import hashlib
from typing import Final, Literal

from nexus_stream.contracts.moments import iso_moment

__all__ = ["HASH_PATTERN", "NO_NUL_PATTERN", "SubjectKind", "require_iso", "short_hash", "subject_hash"]

HASH_PATTERN: Final = "^[0-9a-f]{64}$"
NO_NUL_PATTERN: Final = r"^[^\x00]*$"

SubjectKind = Literal["session", "fingerprint", "email", "phone", "operator"]

_SEPARATOR = "\x1f"  # In no tenant id, session id or fingerprint: control characters are refused.


def require_iso(text: str) -> str:
    """Return the text if it is an ISO 8601 time.

    Raises:
        ValueError: the text is not an ISO 8601 time.
    """
    iso_moment(text)
    return text


def subject_hash(tenant_id: str, kind: SubjectKind, value: str) -> str:
    """SHA-256 over kind, tenant and value, in hex."""
    return hashlib.sha256(_SEPARATOR.join((kind, tenant_id, value)).encode("utf-8", "replace")).hexdigest()


def short_hash(tenant_id: str, kind: SubjectKind, value: str) -> str:
    """The first 12 digits of the hash, to show."""
    return subject_hash(tenant_id, kind, value)[:12]
