"""Filter letters by the options of the command line. Pure functions."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from nexus_stream.contracts.json_reading import json_object
from nexus_stream.contracts.message_forms import number_text
from nexus_stream.contracts.session_key import session_key
from nexus_stream.dead_letters.letter import Letter

__all__ = ["Filter", "session_key_of", "session_of"]


@dataclass(frozen=True, slots=True)
class Filter:
    """A filter. All given conditions must hold. An empty or None field is no condition.

    Attributes:
        ids: Letter ids.
        reasons: Values of ``nexus-reason``.
        origin_topics: Full topic names.
        since: The letter failed at this time or later.
        until: The letter failed before this time.
        session: A session id, or ``tenant:session``.
    """

    ids: frozenset[str] = frozenset()
    reasons: frozenset[str] = frozenset()
    origin_topics: frozenset[str] = frozenset()
    since: datetime | None = None
    until: datetime | None = None
    session: str | None = None

    def matches(self, letter: Letter) -> bool:
        """Whether the letter matches the filter."""
        return (
            (not self.ids or letter.id in self.ids)
            and (not self.reasons or letter.reason in self.reasons)
            and (not self.origin_topics or letter.origin_topic in self.origin_topics)
            and (self.since is None or letter.failed_at >= self.since)
            and (self.until is None or letter.failed_at < self.until)
            and (self.session is None or self._is_session(letter, self.session))
        )

    @staticmethod
    def _is_session(letter: Letter, wanted: str) -> bool:
        found = session_of(letter)
        if found is None:
            # The value is unreadable. The gateway writes the session key as the record's key.
            return letter.key == wanted.encode()
        tenant_id, session_id = found
        return wanted == session_id or wanted == f"{tenant_id}:{session_id}"


def session_of(letter: Letter) -> tuple[str, str] | None:
    """Return tenant (empty if none) and session id from a letter's value: a conversation or an enriched prospect."""
    value = json_object(letter.value)
    session_id = next((value[name] for name in ("sessionId", "session_id", "id") if value.get(name)), None)
    if isinstance(session_id, int | float) and not isinstance(session_id, bool):
        session_id = number_text(session_id)
    metadata = value.get("metadata")
    tenant_id = metadata.get("tenant_id") if isinstance(metadata, dict) else value.get("tenant_id")
    if not isinstance(session_id, str) or not session_id:
        return None
    return (tenant_id if isinstance(tenant_id, str) else ""), session_id


def session_key_of(letter: Letter) -> str | None:
    """Return the session key of a letter's value, as in tables and logs. Return None if the value has no session."""
    found = session_of(letter)
    if found is None:
        return None
    try:
        return session_key(*found).decode()
    except ValueError:
        return None
