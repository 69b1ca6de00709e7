"""What ``nexus privacy`` says of a person and of what was done: hashes, counts and moments.

From: command.py. To: the operator's terminal, as text or as one JSON object.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from nexus_stream.contracts.subject import short_hash
from nexus_stream.privacy.changelog import State
from nexus_stream.privacy.copies import Copy
from nexus_stream.privacy.erasing import Erased
from nexus_stream.privacy.people import Person

__all__ = ["as_dict", "described", "reported"]


def described(person: Person, states: dict[bytes, State], rows: int) -> list[str]:
    """Whom it would concern."""
    lines = [
        f"{len(person.session_ids)} session(s), {len(person.fingerprints)} browser(s), {rows} row(s) in the database, "
        f"{len(states)} state(s) in the session table"
    ]
    erased = {state["session_id"] for state in states.values() if state.get("status") == "erased"}
    for session_id in sorted(person.session_ids):
        mark = "  erased before" if session_id in erased else ""
        lines.append(f"  session     {short_hash(person.tenant_id, 'session', session_id)}{mark}")
    return lines + [
        f"  fingerprint {short_hash(person.tenant_id, 'fingerprint', fingerprint)}"
        for fingerprint in sorted(person.fingerprints)
    ]


def reported(result: Erased, copies: list[Copy]) -> list[str]:
    """How it went, and where copies remain."""
    if result.complete:
        lines = [f"Done. Request {result.request_id}."]
    else:
        lines = [
            f"Not complete yet: {len(result.waiting_for)} session(s) wait for their enricher or the sink, "
            f"{result.rows_left} row(s) are left. The commands stand on the topic and will be obeyed, but that a chat "
            f"that goes on is not taken out by forget-session; call it again to see. Request {result.request_id}.",
            *(f"  session     {session}" for session in result.waiting_for),
        ]
    if copies and result.complete:
        lines.append("Copies that remain, and until when at the latest:")
    elif copies:
        lines.append(
            "Copies that remain. The times count from when it is obeyed; if that were now, at the latest until:"
        )
    for copy in copies:
        until = "no fixed time" if copy.until is None else copy.until.isoformat(timespec="minutes")
        note = f" ({copy.note})" if copy.note else ""
        lines.append(f"  {until:<22} {copy.place}: {copy.what}{note}")
    return lines


def as_dict(person: Person, result: Erased | None, copies: list[Copy], counted_from: datetime) -> dict[str, Any]:
    """The same for programs. Moments of an erasure that is not complete move on with ``copies_counted_from``."""
    answer: dict[str, Any] = {
        "found": bool(person.size),
        "session_hashes": person.session_hashes(),
        "fingerprint_hashes": person.fingerprint_hashes(),
    }
    if result is not None:
        answer |= {
            "request_id": result.request_id,
            "complete": result.complete,
            "waiting_for": result.waiting_for,
            "rows_left": result.rows_left,
            "copies_counted_from": counted_from.isoformat(timespec="seconds"),
            "copies": [copy.as_dict() for copy in copies],
        }
    return answer
