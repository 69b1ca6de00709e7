"""Erase a person or forget one session, and wait for completion. Unblock an erased person.

To: one command per session on ``nexus-prospect-ingestion``, and the database for rows without a session. The enricher
of the session's partition runs the command in order with the session's messages.

An erasure sends the commands first. If it stops half-way, the person can still be found in the database, and a second
run finishes the erasure.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime

from nexus_stream.contracts.session_command import CommandKind, SessionCommand
from nexus_stream.contracts.subject import short_hash, subject_hash
from nexus_stream.kafka.sender import Sender
from nexus_stream.privacy.audit import Audit, PrivacyAction, audited
from nexus_stream.privacy.changelog import StoredState, extend, follow_states, matches, read_states
from nexus_stream.privacy.people import People, Person
from nexus_stream.privacy.selector import Selector
from nexus_stream.settings import Settings

__all__ = ["ErasureResult", "erase", "forget_session", "locate", "locate_session", "unblock"]

_POLL_SECONDS = 0.3
_MAX_ROUNDS = 5
_MAX_HASHES = 256


@dataclass(slots=True)
class ErasureResult:
    """The result of erasing, unblocking or forgetting.

    Attributes:
        request_id: The id in the audit, the events and the suppressions.
        waiting_for: Hashes of sessions whose command is not complete.
        rows_left: Rows that the database still holds.
    """

    request_id: str
    waiting_for: list[str] = field(default_factory=list)
    rows_left: int = 0

    @property
    def complete(self) -> bool:
        """Whether the request is complete."""
        return not self.waiting_for and not self.rows_left


async def locate(settings: Settings, people: People, selector: Selector) -> tuple[Person, dict[bytes, StoredState]]:
    """Find a person in the database and the session table. Also return their session states from the session table."""
    person = await people.find(selector)
    states: dict[bytes, StoredState] = {}
    for _ in range(_MAX_ROUNDS):
        states = await read_states(settings, lambda state: matches(state, selector, person))
        if not extend(person, states.values()):
            break
        await people.complete(person)
    return person, states


async def locate_session(
    settings: Settings, people: People, selector: Selector
) -> tuple[Person, dict[bytes, StoredState]]:
    """Return only this session, without the rest of its person."""
    person = Person(selector.tenant_id, {selector.value})
    return person, await read_states(settings, _is_theirs(person))


async def erase(
    settings: Settings,
    people: People,
    selector: Selector,
    person: Person,
    *,
    requested_by: str,
    timeout_seconds: float,
    audit: Audit | None = None,
) -> ErasureResult:
    """Erase all data of a person, except copies that a topic keeps until its retention ends.

    Raises:
        BrokerUnavailableError, DatabaseUnavailableError: call this function again. A repeat is harmless.
    """
    async with _audited(people, "erase", selector, person, requested_by, audit) as noted:
        result = ErasureResult(noted.request_id)
        await _send(settings, CommandKind.ERASE, person, result.request_id, requested_by, datetime.now(UTC))
        await people.erase(person, result.request_id)

        async def look() -> None:
            # The sink suppresses a session after the enricher's event. So a suppressed session is done in both.
            result.waiting_for = sorted(one[:12] for one in await people.not_erased_yet(person, result.request_id))
            result.rows_left = await people.rows_left(person)

        noted.outcome = await _wait(result, look, timeout_seconds)
    return result


async def unblock(
    settings: Settings,
    people: People,
    selector: Selector,
    person: Person,
    *,
    requested_by: str,
    timeout_seconds: float,
    audit: Audit | None = None,
) -> ErasureResult:
    """Unblock an erased person: new messages are stored again."""
    async with _audited(people, "lift", selector, person, requested_by, audit) as noted:
        result = ErasureResult(noted.request_id)
        moment = datetime.now(UTC)
        # The database first: it must accept the records that the enricher accepts after the command.
        await people.unblock(person, moment)
        await _send(settings, CommandKind.UNBLOCK, person, result.request_id, requested_by, moment)
        async with follow_states(settings, _is_theirs(person)) as states:

            async def look() -> None:
                result.waiting_for = _short_hashes(person, await states.newest(), is_erased=True)

            noted.outcome = await _wait(result, look, timeout_seconds)
    return result


async def forget_session(
    settings: Settings,
    people: People,
    selector: Selector,
    person: Person,
    *,
    requested_by: str,
    timeout_seconds: float,
    audit: Audit | None = None,
) -> ErasureResult:
    """Forget one session, as retention does for an idle one. Its person stays, and nothing is suppressed."""
    async with _audited(people, "forget-session", selector, person, requested_by, audit) as noted:
        result = ErasureResult(noted.request_id)
        await _send(settings, CommandKind.EXPIRE, person, result.request_id, requested_by, datetime.now(UTC))
        async with follow_states(settings, _is_theirs(person)) as states:

            async def look() -> None:
                result.waiting_for = _short_hashes(person, await states.newest(), is_erased=False)
                result.rows_left = await people.sessions_left(person)

            noted.outcome = await _wait(result, look, timeout_seconds)
    return result


@asynccontextmanager
async def _audited(
    people: People, action: PrivacyAction, selector: Selector, person: Person, requested_by: str, within: Audit | None
) -> AsyncIterator[Audit]:
    async with audited(people, action, selector, requested_by, within=within) as audit:
        await audit.concerns(person)
        yield audit


async def _wait(result: ErasureResult, look: Callable[[], Awaitable[None]], timeout_seconds: float) -> str:
    """Poll until the request is complete or the timeout passes. Return the outcome for the audit."""
    deadline = time.monotonic() + timeout_seconds
    while True:
        await look()
        if result.complete or time.monotonic() > deadline:
            return "done" if result.complete else "incomplete"
        await asyncio.sleep(_POLL_SECONDS)


def _is_theirs(person: Person) -> Callable[[StoredState], bool]:
    def wanted(state: StoredState) -> bool:
        return state.get("tenant_id", "") == person.tenant_id and state.get("session_id") in person.session_ids

    return wanted


def _short_hashes(person: Person, states: dict[bytes, StoredState], *, is_erased: bool) -> list[str]:
    return sorted(
        short_hash(person.tenant_id, "session", state["session_id"])
        for state in states.values()
        if (state.get("status") == "erased") is is_erased
    )


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
                idle_since_ms=round(moment.timestamp() * 1000) if kind is CommandKind.EXPIRE else None,
            )
            await sender.send(settings.ingestion_topic, command.key, command.value, headers=command.headers)
