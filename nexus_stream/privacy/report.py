"""Output of ``nexus privacy``, as text or as one JSON object. It shows hashes, counts and times, but no ids."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from nexus_stream.contracts.subject import short_hash
from nexus_stream.privacy.changelog import StoredState
from nexus_stream.privacy.copies import Copy
from nexus_stream.privacy.erasing import ErasureResult
from nexus_stream.privacy.people import Person

__all__ = ["as_dict", "described", "reported"]


def described(person: Person, states: dict[bytes, StoredState], rows: int) -> list[str]:
    """Describe the person before the confirmation."""
    lines = [
        f"{len(person.session_ids)} session(s), {len(person.fingerprints)} browser(s), {rows} row(s) in the database, "
        f"{len(states)} state(s) in the session table"
    ]
    erased = {state["session_id"] for state in states.values() if state.get("status") == "erased"}
    for session_id in sorted(person.session_ids):
        mark = "  already erased" if session_id in erased else ""
        lines.append(f"  session     {short_hash(person.tenant_id, 'session', session_id)}{mark}")
    return lines + [
        f"  fingerprint {short_hash(person.tenant_id, 'fingerprint', fingerprint)}"
        for fingerprint in sorted(person.fingerprints)
    ]


def reported(result: ErasureResult, copies: list[Copy]) -> list[str]:
    """Describe the result, and list the copies that remain."""
    if result.complete:
        lines = [f"Done. Request {result.request_id}."]
    else:
        lines = [
            f"Not complete yet: {len(result.waiting_for)} session(s) wait for their enricher or the sink, "
            f"{result.rows_left} row(s) remain. The commands are queued on the topic. forget-session does not forget a "
            f"chat that is still active: run the command again to check. Request {result.request_id}.",
            *(f"  session     {session}" for session in result.waiting_for),
        ]
    if copies and result.complete:
        lines.append("Copies that remain, with the latest time of deletion:")
    elif copies:
        lines.append(
            "Copies that remain, with the latest time of deletion. The times count from the end of the erasure and "
            "assume that it ends now:"
        )
    for copy in copies:
        until = "no fixed time" if copy.until is None else copy.until.isoformat(timespec="minutes")
        note = f" ({copy.note})" if copy.note else ""
        lines.append(f"  {until:<22} {copy.place}: {copy.what}{note}")
    return lines


def as_dict(person: Person, result: ErasureResult | None, copies: list[Copy], counted_from: datetime) -> dict[str, Any]:
    """Return the result for JSON. Until the erasure is complete, the times of copies count from each run's end.

    ``copies_counted_from`` holds this start time.
    """
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
