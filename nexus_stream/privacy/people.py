"""Find, export, erase and unblock a person in Supabase, and write the audit.

From and to: the tables and functions of the migrations, with the role ``nexus_privacy``. One connection per command.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, LiteralString

import asyncpg

from nexus_stream.contracts.subject import subject_hash
from nexus_stream.privacy.selector import Selector
from nexus_stream.settings import Settings
from nexus_stream.supabase.pool import connect_once, target_of, to_nexus_error, transaction

__all__ = ["People", "Person"]

# Longer than the sink's timeout: e-mail and phone have no index, so a search reads all rows of the tenant.
_STATEMENT_SECONDS = 120.0
_SESSION_PREFIX = "session:"
_NOTED_AS = {"forget-session": ("erase", "session only")}

_FOUND: dict[str, LiteralString] = {
    "session": "SELECT person_key FROM public.prospect_sessions WHERE tenant_id = $1 AND session_id = $2",
    "fingerprint": "SELECT $2::text WHERE $1::text IS NOT NULL",
    "email": """
        SELECT person_key FROM public.prospect_sessions
        WHERE tenant_id = $1 AND lower(btrim(record -> 'prospect' ->> 'email')) = $2
        UNION SELECT fingerprint_id FROM public.nexus_rows_of($1)
        WHERE lower(btrim(prospect_data ->> 'email')) = $2
        UNION SELECT fingerprint_id FROM public.prospect_contributions
        WHERE tenant_id = $1 AND lower(btrim(data ->> 'email')) = $2
    """,
    # The same rule as Selector.is_number.
    "phone": r"""
        SELECT person_key FROM (
            SELECT person_key, record -> 'prospect' ->> 'telefono' AS phone
            FROM public.prospect_sessions WHERE tenant_id = $1
            UNION ALL SELECT fingerprint_id, prospect_data ->> 'telefono'
            FROM public.nexus_rows_of($1)
            UNION ALL SELECT fingerprint_id, data ->> 'telefono'
            FROM public.prospect_contributions WHERE tenant_id = $1
        ) given
        CROSS JOIN LATERAL (SELECT ltrim(regexp_replace(phone, '\(0\)|[^0-9]', '', 'g'), '0') AS digits) written
        WHERE digits = $2 OR (digits = ANY ($3::text[]) AND phone !~ '^\s*\(?\+')
        GROUP BY person_key
    """,
}
_SESSIONS: LiteralString = """
    SELECT session_id, fingerprint FROM public.prospect_sessions
    WHERE tenant_id = $1 AND (person_key = ANY ($2::text[]) OR session_id = ANY ($3::text[]))
"""
_EXPORTS: dict[str, LiteralString] = {
    "prospect_tracking": """
        SELECT to_jsonb(t) AS entry FROM public.nexus_rows_of($1) t
        WHERE (fingerprint_id = ANY ($2::text[]) OR fingerprint_id = ANY ($4::text[]))
            AND $3::text[] IS NOT NULL
    """,
    "prospect_sessions": """
        SELECT to_jsonb(s) AS entry FROM public.prospect_sessions s
        WHERE tenant_id = $1 AND (person_key = ANY ($2::text[]) OR session_id = ANY ($3::text[])
            OR person_key = ANY ($4::text[]))
    """,
    "prospect_contributions": """
        SELECT to_jsonb(c) AS entry FROM public.prospect_contributions c
        WHERE tenant_id = $1 AND (fingerprint_id = ANY ($2::text[]) OR fingerprint_id = ANY ($4::text[]))
            AND $3::text[] IS NOT NULL
    """,
}


@dataclass(slots=True)
class Person:
    """A person: all session ids and fingerprints under which their data is stored."""

    tenant_id: str
    session_ids: set[str] = field(default_factory=set)
    fingerprints: set[str] = field(default_factory=set)

    @property
    def person_keys(self) -> list[str]:
        """The keys of their rows in prospect_tracking."""
        return sorted(self.fingerprints | self.session_keys)

    @property
    def session_keys(self) -> set[str]:
        """The person keys of sessions that have, or once had, no fingerprint."""
        return {_SESSION_PREFIX + session_id for session_id in self.session_ids}

    def session_hashes(self) -> list[str]:
        """The session hashes, as in ``prospect_suppressions``."""
        return sorted(subject_hash(self.tenant_id, "session", session_id) for session_id in self.session_ids)

    def fingerprint_hashes(self) -> list[str]:
        """The fingerprint hashes, as in ``prospect_suppressions``."""
        return sorted(subject_hash(self.tenant_id, "fingerprint", fingerprint) for fingerprint in self.fingerprints)

    def add_keys(self, person_keys: Iterable[str]) -> None:
        """Add the sessions or fingerprints of ``prospect_tracking`` keys."""
        for key in person_keys:
            if key.startswith(_SESSION_PREFIX):
                self.session_ids.add(key.removeprefix(_SESSION_PREFIX))
            else:
                self.fingerprints.add(key)

    @property
    def size(self) -> int:
        """The number of known sessions and fingerprints."""
        return len(self.session_ids) + len(self.fingerprints)


class People:
    """The database side of ``nexus privacy``."""

    def __init__(self, connection: asyncpg.Connection[asyncpg.Record]) -> None:
        self._connection = connection

    @classmethod
    @asynccontextmanager
    async def connect(cls, settings: Settings) -> AsyncIterator[People]:
        """Connect for one command.

        Raises:
            ConfigurationError: the DSN, the login or the tables are wrong.
            DatabaseUnavailableError: the database does not answer.
        """
        target = target_of(settings)
        async with connect_once(target, settings.database_connect_timeout_seconds) as connection:
            try:
                await connection.set_type_codec("jsonb", encoder=json.dumps, decoder=json.loads, schema="pg_catalog")
                yield cls(connection)
            except (asyncpg.PostgresError, asyncpg.InterfaceError) as error:
                raise to_nexus_error(error, target) from error

    async def find(self, selector: Selector) -> Person:
        """Find the person in the database. The selected session or fingerprint is included even if it is unknown."""
        person = Person(selector.tenant_id)
        if selector.kind == "session":
            person.session_ids.add(selector.value)
        elif selector.kind == "fingerprint":
            person.fingerprints.add(selector.value)
        sought: tuple[object, ...] = (selector.value,)
        if selector.kind == "phone":
            sought = (selector.international_digits, list(selector.any_digits))
        rows = await self._fetch(_FOUND[selector.kind], selector.tenant_id, *sought)
        person.add_keys(row[0] for row in rows)
        await self.complete(person)
        return person

    async def complete(self, person: Person) -> None:
        """Add sessions of the person's fingerprints and fingerprints of these sessions, until nothing is new."""
        size = -1
        while person.size != size:
            size = person.size
            rows = await self._fetch(_SESSIONS, person.tenant_id, person.person_keys, sorted(person.session_ids))
            person.session_ids.update(row["session_id"] for row in rows)
            person.fingerprints.update(row["fingerprint"] for row in rows if row["fingerprint"])

    async def export(self, person: Person) -> dict[str, list[Any]]:
        """Return every row about the person, by table."""
        arguments = (
            person.tenant_id,
            sorted(person.fingerprints),
            sorted(person.session_ids),
            sorted(person.session_keys),
        )
        return {
            table: [row["entry"] for row in await self._fetch(query, *arguments)] for table, query in _EXPORTS.items()
        }

    async def rows_left(self, person: Person) -> int:
        """Count the stored rows about the person."""
        return sum(len(rows) for rows in (await self.export(person)).values())

    async def sessions_left(self, person: Person) -> int:
        """Count the rows of the person's sessions, even if a session now belongs to another person."""
        rows = await self._fetch(
            "SELECT FROM public.prospect_sessions WHERE tenant_id = $1 AND session_id = ANY ($2::text[])",
            person.tenant_id,
            sorted(person.session_ids),
        )
        return len(rows)

    async def erase(self, person: Person, request_id: str) -> None:
        """Delete the rows of the person's fingerprints, and suppress the fingerprints."""
        await self._fetch(
            "SELECT public.nexus_erase_people($1, $2::text[], $3)",
            person.tenant_id,
            sorted(person.fingerprints),
            request_id,
        )

    async def not_erased_yet(self, person: Person, request_id: str) -> set[str]:
        """Return the hashes of sessions that the enricher and the sink have not erased yet for this request."""
        rows = await self._fetch(
            "SELECT subject_hash FROM public.prospect_suppressions"
            " WHERE tenant_id = $1 AND request_id = $2 AND kind = 'session'",
            person.tenant_id,
            request_id,
        )
        return set(person.session_hashes()) - {row["subject_hash"] for row in rows}

    async def unblock(self, person: Person, moment: datetime) -> int:
        """End the person's suppressions at ``moment``. Return their number."""
        rows = await self._fetch(
            "SELECT public.nexus_lift($1, $2::text[], $3::timestamptz)",
            person.tenant_id,
            [*person.session_hashes(), *person.fingerprint_hashes()],
            moment,
        )
        return int(rows[0][0])

    async def begin_audit(
        self, action: str, request_id: str, requested_by: str, selector: Selector, person: Person
    ) -> None:
        """Record the request before the search. A second call with the same id adds the person that was found."""
        # The table has no action "forget-session": it is recorded as an erasure with the kind "session only".
        action, kind = _NOTED_AS.get(action, (action, selector.kind))
        await self._fetch(
            "INSERT INTO public.privacy_audit (request_id, action, requested_by, tenant_id, selector_kind,"
            " selector_hash, session_hashes, fingerprint_hashes)"
            " VALUES ($1, $2, $3, $4, $5, $6, $7::text[], $8::text[])"
            " ON CONFLICT (request_id) DO UPDATE SET session_hashes = excluded.session_hashes,"
            " fingerprint_hashes = excluded.fingerprint_hashes",
            request_id,
            action,
            requested_by,
            selector.tenant_id,
            kind,
            selector.hash,
            person.session_hashes(),
            person.fingerprint_hashes(),
        )

    async def end_audit(self, request_id: str, outcome: str) -> None:
        """Record the outcome."""
        await self._fetch(
            "UPDATE public.privacy_audit SET outcome = $2, finished_at = now() WHERE request_id = $1",
            request_id,
            outcome,
        )

    async def _fetch(self, query: LiteralString, *arguments: object) -> Sequence[asyncpg.Record]:
        async with transaction(self._connection, _STATEMENT_SECONDS):
            return await self._connection.fetch(query, *arguments)
