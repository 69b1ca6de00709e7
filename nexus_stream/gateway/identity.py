"""The identity that a visitor claims, and whether the site's server proved it.

The proof is HMAC-SHA256 over the identity's UTF-8 bytes with a secret that only the site's server and the gateway know,
in hex. Chatwoot's ``identifier_hash`` and Intercom's ``user_hash`` are made the same way. A wrong proof refuses
nothing: the lead is kept, and its identity counts as not proven.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from nexus_stream.contracts.placeholders import is_placeholder
from nexus_stream.contracts.plain_form import MAX_IDENTITY_CHARS

__all__ = ["ClaimedIdentity", "take_identity"]

# PostgreSQL's jsonb refuses NUL; no id holds any of these.
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_CLAIM, _HASH, _PROVEN = "identity", "identityHash", "identityProven"


@dataclass(frozen=True, slots=True)
class ClaimedIdentity:
    """One claim.

    Attributes:
        value: The visitor's id at the site; personal data.
        outcome: ``proven``, ``claimed`` (no hash, or no secret to check it with) or ``wrong_hash``.
    """

    value: str
    outcome: Literal["proven", "claimed", "wrong_hash"]

    @property
    def metadata(self) -> dict[str, Any]:
        """Its fields in the record's metadata."""
        return {_CLAIM: self.value, _PROVEN: self.outcome == "proven"}


def take_identity(body: dict[str, Any], secrets: Sequence[bytes]) -> ClaimedIdentity | None:
    """Remove the claim and its hash from the body and from the body's metadata, and check the claim.

    ``identity`` and ``identityHash`` are read beside ``messages``, else in ``metadata``. A client's ``identityProven``
    is removed too.

    Args:
        body: The request's JSON; changed.
        secrets: Any of them may prove the claim.

    Returns:
        None if there is no claim: not text and no whole number, blank, a placeholder, over `MAX_IDENTITY_CHARS`, or
        with control characters.
    """
    places = [body]
    if isinstance(body.get("metadata"), dict):
        body["metadata"] = dict(body["metadata"])
        places.append(body["metadata"])
    claims = [_text(place.pop(_CLAIM, None)) for place in places]
    hashes = [_text(place.pop(_HASH, None)) for place in places]
    for place in places:
        place.pop(_PROVEN, None)
    claim = next((text for text in claims if text), None)
    if claim is None or len(claim) > MAX_IDENTITY_CHARS or _CONTROL.search(claim) or is_placeholder(claim):
        return None
    sent = next((text for text in hashes if text), None)
    if sent is None or not secrets:
        return ClaimedIdentity(claim, "claimed")
    return ClaimedIdentity(claim, "proven" if _proves(sent, claim, secrets) else "wrong_hash")


def _text(value: object) -> str | None:
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return value if isinstance(value, str) and value.strip() else None


def _proves(sent: str, claim: str, secrets: Sequence[bytes]) -> bool:
    found = sent.strip().lower().encode()
    message = claim.encode()
    expected = [hmac.new(secret, message, hashlib.sha256).hexdigest().encode() for secret in secrets]
    # Compare with each, so that the time does not tell which one matched.
    return sum(hmac.compare_digest(found, proof) for proof in expected) > 0
