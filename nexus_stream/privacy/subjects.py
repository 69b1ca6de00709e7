"""The hash under which an erased session or fingerprint is remembered.

The same in Python and in SQL (``nexus_subject_hash``), so that the enricher, the sink and the database mean the same.
Not salted: it has to be recomputed from the id when the browser comes back. Session ids and fingerprints are long
random text; e-mail addresses and phone numbers, which can be guessed, are never hashed for suppression.
"""

from __future__ import annotations

import hashlib
from typing import Literal

__all__ = ["SubjectKind", "short_hash", "subject_hash"]

SubjectKind = Literal["session", "fingerprint", "email", "phone", "operator"]

_SEPARATOR = "\x1f"  # in no tenant id, session id or fingerprint: control characters are refused


def subject_hash(tenant_id: str, kind: SubjectKind, value: str) -> str:
    """SHA-256 over kind, tenant and value, in hex."""
    return hashlib.sha256(_SEPARATOR.join((kind, tenant_id, value)).encode("utf-8", "replace")).hexdigest()


def short_hash(tenant_id: str, kind: SubjectKind, value: str) -> str:
    """Its first 12 digits, to show."""
    return subject_hash(tenant_id, kind, value)[:12]
