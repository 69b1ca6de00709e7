"""The line in ``privacy_audit`` of one request: written before anybody is looked for, ended however it ends.

From: command.py, erasing.py, exporting.py and the console. To: the table, through people.py.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Literal

import asyncpg

from nexus_stream.contracts.session_command import SessionCommand
from nexus_stream.privacy.people import People, Person
from nexus_stream.privacy.selector import Selector

__all__ = ["Action", "Audit", "audited"]

Action = Literal["export", "erase", "lift", "forget-session"]


class Audit:
    """One request.

    Attributes:
        request_id: Its id, also in what it causes.
        outcome: What is noted at the end; left empty it is ``done``, or ``failed`` after an error.
    """

    def __init__(self, people: People, action: Action, selector: Selector, requested_by: str) -> None:
        self.request_id = SessionCommand.new_request_id()
        self.outcome = ""
        self._people = people
        self._about = (action, self.request_id, requested_by, selector)

    async def concerns(self, person: Person) -> None:
        """Note whom it concerns."""
        await self._people.begin_audit(*self._about, person)


@asynccontextmanager
async def audited(
    people: People, action: Action, selector: Selector, requested_by: str, *, within: Audit | None = None
) -> AsyncIterator[Audit]:
    """Note a request before and after it. One that is cut off, or ends while the database is away, stays ``running``.

    Args:
        people: The database.
        action: What is asked for.
        selector: About whom.
        requested_by: Who asks.
        within: A request that is noted already, of which this is a part.
    """
    if within is not None:
        yield within
        return
    audit = Audit(people, action, selector, requested_by)
    await audit.concerns(Person(selector.tenant_id))
    try:
        yield audit
    except Exception:
        # What went wrong is to be told, not that it could not be noted.
        with suppress(asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
            await people.end_audit(audit.request_id, audit.outcome or "failed")
        raise
    await people.end_audit(audit.request_id, audit.outcome or "done")
