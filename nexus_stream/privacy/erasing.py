"""Erase a person and wait until it is done; let them in again.

From: command.py. To: one command a session on ``nexus-prospect-ingestion``, so that the enricher that owns it obeys in
order with what was said; and the database, for what belongs to no session.

Commands first: should this stop half-way, the person is still found in the database, and calling it again finishes it.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime

from nexus_stream.contracts.session_command import CommandKind, SessionCommand
from nexus_stream.dead_letters.log import Sender
from nexus_stream.privacy.changelog import State, extend, matches, read_states
from nexus_stream.privacy.people import People, Person
from nexus_stream.privacy.selector import Selector
from nexus_stream.privacy.subjects import subject_hash
from nexus_stream.settings import Settings

__all__ = ["Erased", "erase", "lift", "locate"]

_ASK_AGAIN_SECONDS = 0.3
_MAX_ROUNDS = 5
_MAX_HASHES = 256


@dataclass(slots=True)
class Erased:
    """How an erasure, or a lift, went.

    Attributes:
        request_id: In the audit, the events and the suppressions.
        waiting_for: Sessions whose enricher has not obeyed yet, hashed.
        rows_left: Rows that the database still holds.
    """

    request_id: str
    waiting_for: list[str] = field(default_factory=list)
    rows_left: int = 0

    @property
    def complete(self) -> bool:
        """Whether all that was asked is done."""
        return not self.waiting_for and not self.rows_left


async def locate(settings: Settings, people: People, selector: Selector) -> tuple[Person, dict[bytes, State]]:
    """The person, from the database and the session table, and their sessions' states in the latter."""
    person = await people.find(selector)
    states: dict[bytes, State] = {}
    for _ in range(_MAX_ROUNDS):
        states = await read_states(settings, lambda state: matches(state, selector, person))
        if not extend(person, states.values()):
            break
        await people.complete(person)
    return person, states


async def erase(
    settings: Settings, people: People, selector: Selector, person: Person, *, requested_by: str, timeout_seconds: float
) -> Erased:
    """Erase everything of a person that is not bound to a topic's retention.

    Raises:
        BrokerUnavailableError, DatabaseUnavailableError: call it again; it begins anew and repeats nothing harmful.
    """
    request_id = SessionCommand.new_request_id()
    await people.begin_audit("erase", request_id, requested_by, selector, person)
    await _send(settings, CommandKind.ERASE, person, request_id, requested_by, datetime.now(UTC))
    await people.erase(person, request_id)
    deadline = time.monotonic() + timeout_seconds
    result = Erased(request_id)
    while True:
        # Kept away by the sink, which the enricher told: both have done it.
        result.waiting_for = sorted(one[:12] for one in await people.not_erased_yet(person, request_id))
        result.rows_left = await people.rows_left(person)
        if result.complete or time.monotonic() > deadline:
            break
        await asyncio.sleep(_ASK_AGAIN_SECONDS)
    await people.end_audit(request_id, "done" if result.complete else "incomplete")
    return result


async def lift(
    settings: Settings, people: People, selector: Selector, person: Person, *, requested_by: str, timeout_seconds: float
) -> Erased:
    """Let in again what an erased person says from now on."""
    request_id = SessionCommand.new_request_id()
    await people.begin_audit("lift", request_id, requested_by, selector, person)
    moment = datetime.now(UTC)
    # The database first: what the enricher lets in must not be kept away there.
    await people.lift(person, moment)
    await _send(settings, CommandKind.LIFT, person, request_id, requested_by, moment)
    deadline = time.monotonic() + timeout_seconds
    result = Erased(request_id)
    while True:
        erased = await read_states(
            settings,
            lambda state: (
                state.get("tenant_id", "") == person.tenant_id
                and state.get("session_id") in person.session_ids
                and state.get("status") == "erased"
            ),
        )
        result.waiting_for = sorted(
            subject_hash(person.tenant_id, "session", state["session_id"])[:12] for state in erased.values()
        )
        if result.complete or time.monotonic() > deadline:
            break
        await asyncio.sleep(_ASK_AGAIN_SECONDS)
    await people.end_audit(request_id, "done" if result.complete else "incomplete")
    return result


async def _send(
    settings: Settings, kind: CommandKind, person: Person, request_id: str, requested_by: str, moment: datetime
) -> None:
    hashes = tuple(person.fingerprint_hashes()[:_MAX_HASHES]) if kind is CommandKind.ERASE else ()
    async with Sender(settings) as sender:
        for session_id in sorted(person.session_ids):
            command = SessionCommand(
                command=kind,
                tenant_id=person.tenant_id,
                session_id=session_id,
                request_id=request_id,
                requested_by_hash=subject_hash(person.tenant_id, "operator", requested_by)[:32],
                requested_at=moment,
                fingerprint_hashes=hashes,
            )
            await sender.send(settings.ingestion_topic, command.key, command.value, headers=command.headers)
