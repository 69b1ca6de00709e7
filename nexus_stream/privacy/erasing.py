"""Erase a person, or one session, and wait until it is done; let them in again.

From: command.py and the console. To: one command a session on ``nexus-prospect-ingestion``, so that the enricher that
owns it obeys in order with what was said; and the database, for what belongs to no session.

Commands first: should this stop half-way, the person is still found in the database, and calling it again finishes it.
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
from nexus_stream.privacy.audit import Action, Audit, audited
from nexus_stream.privacy.changelog import State, extend, follow_states, matches, read_states
from nexus_stream.privacy.people import People, Person
from nexus_stream.privacy.selector import Selector
from nexus_stream.settings import Settings

__all__ = ["Erased", "erase", "forget_session", "lift", "locate", "locate_session"]

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


async def locate_session(settings: Settings, people: People, selector: Selector) -> tuple[Person, dict[bytes, State]]:
    """One session and nothing else of its person."""
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
) -> Erased:
    """Erase everything of a person that is not bound to a topic's retention.

    Raises:
        BrokerUnavailableError, DatabaseUnavailableError: call it again; it begins anew and repeats nothing harmful.
    """
    async with _audited(people, "erase", selector, person, requested_by, audit) as noted:
        result = Erased(noted.request_id)
        await _send(settings, CommandKind.ERASE, person, result.request_id, requested_by, datetime.now(UTC))
        await people.erase(person, result.request_id)

        async def look() -> None:
            # Kept away by the sink, which the enricher told: both have done it.
            result.waiting_for = sorted(one[:12] for one in await people.not_erased_yet(person, result.request_id))
            result.rows_left = await people.rows_left(person)

        noted.outcome = await _wait(result, look, timeout_seconds)
    return result


async def lift(
    settings: Settings,
    people: People,
    selector: Selector,
    person: Person,
    *,
    requested_by: str,
    timeout_seconds: float,
    audit: Audit | None = None,
) -> Erased:
    """Let in again what an erased person says from now on."""
    async with _audited(people, "lift", selector, person, requested_by, audit) as noted:
        result = Erased(noted.request_id)
        moment = datetime.now(UTC)
        # The database first: what the enricher lets in must not be kept away there.
        await people.lift(person, moment)
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
) -> Erased:
    """Take one session out, as if it had been idle for too long: its person stays, and nothing is kept away."""
    async with _audited(people, "forget-session", selector, person, requested_by, audit) as noted:
        result = Erased(noted.request_id)
        await _send(settings, CommandKind.EXPIRE, person, result.request_id, requested_by, datetime.now(UTC))
        async with follow_states(settings, _is_theirs(person)) as states:

            async def look() -> None:
                result.waiting_for = _short_hashes(person, await states.newest(), is_erased=False)
                result.rows_left = await people.sessions_left(person)

            noted.outcome = await _wait(result, look, timeout_seconds)
    return result


@asynccontextmanager
async def _audited(
    people: People, action: Action, selector: Selector, person: Person, requested_by: str, within: Audit | None
) -> AsyncIterator[Audit]:
    async with audited(people, action, selector, requested_by, within=within) as audit:
        await audit.concerns(person)
        yield audit


async def _wait(result: Erased, look: Callable[[], Awaitable[None]], timeout_seconds: float) -> str:
    """Look until all is done or time is up; the outcome to note."""
    deadline = time.monotonic() + timeout_seconds
    while True:
        await look()
        if result.complete or time.monotonic() > deadline:
            return "done" if result.complete else "incomplete"
        await asyncio.sleep(_ASK_AGAIN_SECONDS)


def _is_theirs(person: Person) -> Callable[[State], bool]:
    def wanted(state: State) -> bool:
        return state.get("tenant_id", "") == person.tenant_id and state.get("session_id") in person.session_ids

    return wanted


def _short_hashes(person: Person, states: dict[bytes, State], *, is_erased: bool) -> list[str]:
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
