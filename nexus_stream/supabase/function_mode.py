"""The mode ``function``: call the installation's own ``update_prospect_data``, which writes the person rows.

To: that SQL function, once for each session whose facts changed, in time order. The call runs in the transaction that
stores the session. ``prospect_sessions`` records each call, so a replay does not call the function again. A session
without a fingerprint stays in ``prospect_sessions``. Its first record with a fingerprint passes all facts.

An answer ``success: false`` counts as the error that it contains. If the answer names no error, the writer tries the
session again alone. If that fails too, the row is bad.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, LiteralString
from uuid import UUID

from nexus_stream.errors import ConfigurationError
from nexus_stream.supabase.sqlstates import Failure, RefusedCallError, failure_of
from nexus_stream.supabase.tables_mode import lock_out_erasures

if TYPE_CHECKING:
    from nexus_stream.supabase.bisecting import Tally
    from nexus_stream.supabase.pool import AnyConnection

__all__ = ["FunctionCall", "find_function", "require_success"]

_CANDIDATES: LiteralString = """
SELECT p.oid::regprocedure::text AS signature, p.pronargs - p.pronargdefaults AS required, p.pronargs AS total,
    ARRAY(
        SELECT format_type(t, NULL) FROM unnest(p.proargtypes::oid[]) WITH ORDINALITY AS u (t, n) ORDER BY n
    ) AS types,
    has_function_privilege(p.oid, 'execute') AS allowed,
    coalesce(obj_description(p.oid, 'pg_proc'), '') LIKE '%Made by nexus-stream.' AS ours
FROM pg_catalog.pg_proc p
WHERE p.pronamespace = 'public'::regnamespace AND p.proname = 'update_prospect_data' AND p.prokind = 'f'
ORDER BY p.pronargs
"""

# One row for each session that needs a call, with the arguments: all known facts, without nulls and empty strings.
_DUE: LiteralString = """
WITH due AS MATERIALIZED (
    SELECT s.tenant_id, s.session_id, s.fingerprint, c.constructor_id, d.data,
        encode(sha256(convert_to(concat_ws(E'\\x1f', s.fingerprint, c.constructor_id, d.data), 'UTF8')), 'hex')
            AS digest,
        s.called_with
    FROM unnest($1::text[], $2::text[]) AS i (tenant_id, session_id)
    JOIN public.prospect_sessions s ON s.tenant_id = i.tenant_id AND s.session_id = i.session_id
    LEFT JOIN unnest($3::text[], $4::uuid[]) AS c (tenant_id, constructor_id) ON c.tenant_id = s.tenant_id
    CROSS JOIN LATERAL (
        SELECT jsonb_object_agg(f.key, f.value) AS data FROM jsonb_each(s.record -> 'prospect') f
        WHERE f.value NOT IN ('null', '""')
    ) d
    WHERE s.fingerprint IS NOT NULL AND s.erased_at IS NULL AND d.data IS NOT NULL
    ORDER BY s.fingerprint COLLATE "C", s.snapshot_at_ms, s.session_id COLLATE "C"
)
"""
# Cast the arguments to the declared types, so that PostgreSQL picks the right one of several overloads.
_FINGERPRINT: dict[str, LiteralString] = {"text": "fingerprint", "character varying": "fingerprint::varchar"}
_DATA: dict[str, LiteralString] = {"jsonb": "data", "json": "data::json"}


def _call(types: Sequence[str], *, takes_constructor: bool) -> LiteralString:
    third: LiteralString = ", constructor_id" if takes_constructor else ""
    return (
        "SELECT tenant_id, session_id, digest, to_jsonb(public.update_prospect_data("  # noqa: S608 - of constants
        + _FINGERPRINT[types[0]]
        + ", "
        + _DATA[types[1]]
        + third
        + ")) AS answer FROM due WHERE called_with IS DISTINCT FROM digest"
    )


_CALLED: LiteralString = """
UPDATE public.prospect_sessions s SET called_with = i.digest
FROM unnest($1::text[], $2::text[], $3::text[]) AS i (tenant_id, session_id, digest)
WHERE s.tenant_id = i.tenant_id AND s.session_id = i.session_id
"""

# Such functions put SQLERRM into their answer. These are PostgreSQL's messages for errors that no row caused.
_WORDS = (
    (
        re.compile(r"deadlock detected|could not (serialize|obtain lock)|lock timeout|too many (connections|clients)"),
        "40001",
    ),
    (re.compile(r"read-only transaction"), "25006"),
    (re.compile(r"statement timeout"), "57014"),
    (re.compile(r"permission denied|row-level security"), "42501"),
    (
        re.compile(r"(relation|column|function|type|schema) .* does not exist|no unique or exclusion constraint"),
        "42P01",
    ),
)
_CODE = re.compile(r"[0-9A-Z]{5}")


@dataclass(frozen=True, slots=True)
class FunctionCall:
    """The installation's function and how to call it.

    Attributes:
        signature: The signature as PostgreSQL writes it.
        takes_constructor: Whether the function has the third argument.
        constructors: Tenant -> third argument.
    """

    signature: str
    statement: LiteralString
    takes_constructor: bool
    constructors: Mapping[str, UUID]

    async def begin(self, connection: AnyConnection) -> None:
        """See `Effect.begin`."""
        await lock_out_erasures(connection)

    async def apply(self, connection: AnyConnection, tally: Tally) -> None:
        """See `Effect.apply`.

        Raises:
            RefusedCallError: the function answered ``success: false``.
        """
        if not tally.sessions:
            return
        sessions = sorted(tally.sessions)
        self._require_constructors({tenant for tenant, _ in sessions})
        tally.statements += 1
        answers = await connection.fetch(
            _DUE + self.statement,
            [tenant for tenant, _ in sessions],
            [session for _, session in sessions],
            list(self.constructors),
            list(self.constructors.values()),
        )
        for answer in answers:
            require_success(answer["answer"])
        if answers:
            tally.statements += 1
            await connection.execute(
                _CALLED,
                [answer["tenant_id"] for answer in answers],
                [answer["session_id"] for answer in answers],
                [answer["digest"] for answer in answers],
            )

    def _require_constructors(self, tenants: set[str]) -> None:
        """Refuse a tenant that the mapping does not contain: its people would go to another tenant.

        Without any mapping, the argument keeps its default, as before nexus-stream.
        """
        if self.takes_constructor and self.constructors and tenants - self.constructors.keys() - {""}:
            raise RefusedCallError(Failure.BAD_ROW, "22023", "the tenant is not in NEXUS_TENANT_CONSTRUCTORS")


async def find_function(connection: AnyConnection, constructors: Mapping[str, UUID]) -> FunctionCall:
    """Find ``update_prospect_data`` and its argument types.

    Args:
        connection: A connection in a transaction.
        constructors: Tenant -> third argument.

    Raises:
        ConfigurationError: no such function can be called, or the only one is nexus-stream's own.
    """
    found_all = [row for row in await connection.fetch(_CANDIDATES) if _callable(row, needs_third=bool(constructors))]
    # Both functions may exist in a database with old migrations: prefer the installation's own.
    candidates = [row for row in found_all if not row["ours"]] or found_all
    if not candidates:
        third = ", uuid" if constructors else ""
        raise ConfigurationError(
            f"NEXUS_SINK_MODE=function: there is no public.update_prospect_data(text, jsonb{third}). "
            "Set NEXUS_SINK_MODE=tables, or create it."
        )
    # If there are several: with a mapping, take the one with the third argument; else the one with fewest arguments.
    found = candidates[-1] if constructors else candidates[0]
    if found["ours"]:
        raise ConfigurationError(
            "NEXUS_SINK_MODE=function: this database's update_prospect_data is nexus-stream's own. "
            "Set NEXUS_SINK_MODE=tables: calling it would count every session twice."
        )
    if not found["allowed"]:
        raise ConfigurationError(
            f"NEXUS_SINK_MODE=function: the login has no permission to execute {found['signature']}. "
            f"Run: grant execute on function public.{found['signature'].removeprefix('public.')} to nexus_sink"
        )
    takes_constructor = len(found["types"]) > 2 and found["types"][2] == "uuid"
    return FunctionCall(
        signature=found["signature"],
        statement=_call(found["types"], takes_constructor=takes_constructor),
        takes_constructor=takes_constructor,
        constructors=dict(constructors),
    )


def _callable(candidate: Any, *, needs_third: bool) -> bool:
    types = candidate["types"]
    if len(types) < 2 or types[0] not in _FINGERPRINT or types[1] not in _DATA:
        return False
    has_third = len(types) > 2 and types[2] == "uuid"
    return candidate["required"] <= (3 if has_third else 2) and (has_third or not needs_third)


def require_success(answer: str | None) -> None:
    """Check the function's answer (JSON).

    Raises:
        RefusedCallError: the answer is ``success: false``.
    """
    found = json.loads(answer) if answer is not None else None
    if not isinstance(found, dict) or found.get("success") not in (False, "false"):
        return
    sqlstate = _sqlstate_in(found)
    raise RefusedCallError(
        failure_of(sqlstate) or Failure.BAD_ROW, sqlstate, "update_prospect_data answered success: false"
    )


def _sqlstate_in(answer: Mapping[str, Any]) -> str:
    """Return the SQLSTATE in the answer, or the one its message matches. Default: the code of RAISE."""
    for key in ("sqlstate", "SQLSTATE", "code", "error_code"):
        code = answer.get(key)
        if isinstance(code, str) and _CODE.fullmatch(code) and failure_of(code) is not None:
            return code
    words = " ".join(str(value) for value in answer.values() if isinstance(value, str))
    for pattern, code in _WORDS:
        if pattern.search(words):
            return code
    return "P0001"
