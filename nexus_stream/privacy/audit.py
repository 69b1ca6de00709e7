"""The audit row of one request in the table ``privacy_audit``.

The row is written before the search for the person. It is completed at the end, whatever the outcome.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Literal

import asyncpg

from nexus_stream.contracts.session_command import SessionCommand
from nexus_stream.privacy.people import People, Person
from nexus_stream.privacy.selector import Selector

__all__ = ["Audit", "PrivacyAction", "audited"]

PrivacyAction = Literal["export", "erase", "lift", "forget-session"]


class Audit:
    """The audit of one request.

    Attributes:
        request_id: The request's id, also used in its commands and events.
        outcome: The outcome to record at the end. Empty means ``done``, or ``failed`` after an error.
    """

    def __init__(self, people: People, action: PrivacyAction, selector: Selector, requested_by: str) -> None:
        self.request_id = SessionCommand.new_request_id()
        self.outcome = ""
        self._people = people
        self._about = (action, self.request_id, requested_by, selector)

    async def concerns(self, person: Person) -> None:
        """Record the person that the request concerns."""
        await self._people.begin_audit(*self._about, person)


@asynccontextmanager
async def audited(
    people: People, action: PrivacyAction, selector: Selector, requested_by: str, *, within: Audit | None = None
) -> AsyncIterator[Audit]:
    """Record a request at its start and at its end.

    The row stays ``running`` if the process is killed, or if the database is unreachable at the end.

    Args:
        people: The database.
        action: The kind of request.
        selector: The selected person.
        requested_by: The requester.
        within: The audit of a larger request that includes this one.
    """
    if within is not None:
        yield within
        return
    audit = Audit(people, action, selector, requested_by)
    await audit.concerns(Person(selector.tenant_id))
    try:
        yield audit
    except Exception:
        # Raise the original error, not the failure to record it.
        with suppress(asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
            await people.end_audit(audit.request_id, audit.outcome or "failed")
        raise
    await people.end_audit(audit.request_id, audit.outcome or "done")
