"""Session commands as the sink and the retention sweep make them; an operator's are made in erasing.py.

Their request ids follow from what they are about, so that a redelivered cause makes the same request again; another
sweep's is another request, with another moment in it.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime

from nexus_stream.contracts.prospect import EnrichedProspect
from nexus_stream.contracts.session_command import CommandKind, SessionCommand
from tables.session_state import SessionState

__all__ = ["erase_again", "expire"]


def erase_again(prospect: EnrichedProspect) -> SessionCommand:
    """Erase a session that an erased person opened since: its enricher cannot know, the database does."""
    return SessionCommand(
        command=CommandKind.ERASE,
        tenant_id=prospect.tenant_id,
        session_id=prospect.session_id,
        request_id=_derived("again", prospect.tenant_id, prospect.session_id, prospect.snapshot_at_ms),
        requested_by_hash="sink",
        requested_at=datetime.now(UTC),
    )


def expire(state: SessionState, idle_since_ms: int) -> SessionCommand:
    """Forget a session in which nothing was seen after that moment."""
    return SessionCommand(
        command=CommandKind.EXPIRE,
        tenant_id=state.tenant_id,
        session_id=state.session_id,
        request_id=_derived("expire", state.tenant_id, state.session_id, state.last_seen_ms, idle_since_ms),
        requested_by_hash="retention",
        requested_at=datetime.now(UTC),
        idle_since_ms=idle_since_ms,
        through_ms=max(idle_since_ms, state.snapshot_at_ms),
    )


def _derived(*parts: object) -> str:
    return hashlib.sha256("\x00".join(map(str, parts)).encode("utf-8", "replace")).hexdigest()[:32]
