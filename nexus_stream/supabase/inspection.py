"""Inspect an existing database: which objects it has, and which ones the migrations would add.

``nexus migrate`` uses the results for its plan, and refuses a database that the migration files do not fit. The
inspection reads the catalog and counts rows. It changes nothing. It returns fingerprints only as hashes.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, LiteralString

from nexus_stream.supabase.statements import without_comments

if TYPE_CHECKING:
    from nexus_stream.supabase.pool import AnyConnection

__all__ = [
    "PERSON_INDEX",
    "DuplicateFingerprint",
    "Installation",
    "inspect_installation",
    "make_person_index",
    "objects_made_by",
    "objects_replaced_by",
]

# The inspection lists at most this many duplicates, and the total number.
_SHOWN_DUPLICATES = 20

PERSON_INDEX = "prospect_tracking_person"

_TABLE: LiteralString = """
SELECT c.relkind::text AS kind, coalesce(obj_description(c.oid, 'pg_class'), '') LIKE '%Made by nexus-stream.' AS ours,
    greatest(c.reltuples, 0)::bigint AS estimated_rows, has_table_privilege(c.oid, 'select') AS readable
FROM pg_catalog.pg_class c WHERE c.oid = to_regclass('public.prospect_tracking')
"""
_COLUMNS: LiteralString = """
SELECT a.attname AS name, format_type(a.atttypid, NULL) AS type,
    a.attnotnull AND NOT a.atthasdef AND a.attidentity = '' AND a.attgenerated = '' AS needs_value
FROM pg_catalog.pg_attribute a
WHERE a.attrelid = to_regclass('public.prospect_tracking') AND a.attnum > 0 AND NOT a.attisdropped
"""
# The columns of each plain unique index: immediate, not partial, without expressions.
_UNIQUE: LiteralString = """
SELECT (
    SELECT array_agg(a.attname::text ORDER BY a.attname) FROM pg_catalog.pg_attribute a
    WHERE a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey::int2[])
) AS columns
FROM pg_catalog.pg_index i
WHERE i.indrelid = to_regclass('public.prospect_tracking')
    AND i.indisunique AND i.indimmediate AND i.indpred IS NULL AND i.indexprs IS NULL
"""
_FUNCTIONS: LiteralString = """
SELECT p.oid::regprocedure::text AS signature,
    coalesce(obj_description(p.oid, 'pg_proc'), '') LIKE '%Made by nexus-stream.' AS ours
FROM pg_catalog.pg_proc p
WHERE p.pronamespace = 'public'::regnamespace AND p.proname = 'update_prospect_data' ORDER BY 1
"""
_DUPLICATES: LiteralString = """
SELECT left(encode(sha256(convert_to(t.fingerprint_id::text, 'UTF8')), 'hex'), 16) AS hash, count(*) AS rows,
    count(*) OVER () AS of
FROM public.prospect_tracking t WHERE t.fingerprint_id IS NOT NULL
GROUP BY t.fingerprint_id HAVING count(*) > 1 ORDER BY 2 DESC, 1 LIMIT $1
"""
_DUPLICATES_BY_TENANT: LiteralString = """
SELECT left(encode(sha256(convert_to(t.fingerprint_id::text, 'UTF8')), 'hex'), 16) AS hash, count(*) AS rows,
    count(*) OVER () AS of
FROM public.prospect_tracking t WHERE t.fingerprint_id IS NOT NULL
GROUP BY t.tenant_id, t.fingerprint_id HAVING count(*) > 1 ORDER BY 2 DESC, 1 LIMIT $1
"""
_EXISTING: LiteralString = """
SELECT 'table ' || relname FROM pg_catalog.pg_class
    WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p', 'v', 'm', 'f')
UNION ALL SELECT 'index ' || relname FROM pg_catalog.pg_class
    WHERE relnamespace = 'public'::regnamespace AND relkind IN ('i', 'I')
UNION ALL SELECT 'function ' || proname FROM pg_catalog.pg_proc WHERE pronamespace = 'public'::regnamespace
UNION ALL SELECT 'role ' || rolname FROM pg_catalog.pg_roles
UNION ALL SELECT 'column ' || c.relname || '.' || a.attname FROM pg_catalog.pg_class c
    JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
    WHERE c.relnamespace = 'public'::regnamespace
UNION ALL SELECT 'policy ' || p.polname || ' on ' || c.relname FROM pg_catalog.pg_policy p
    JOIN pg_catalog.pg_class c ON c.oid = p.polrelid WHERE c.relnamespace = 'public'::regnamespace
"""
_MAKE_INDEX: LiteralString = (
    "CREATE UNIQUE INDEX prospect_tracking_person ON public.prospect_tracking (tenant_id, fingerprint_id)"
)

# The statements in our migration files that make an object. A policy belongs to its table.
_MADE = re.compile(
    r"""
    create\s+(?:or\s+replace\s+)?(?P<kind>table|function|role|policy|(?:unique\s+)?index)\s+(?:if\s+not\s+exists\s+)?
        (?:public\.)?(?P<name>\w+)(?:\s+on\s+public\.(?P<on>\w+))?
  | alter\s+table\s+public\.(?P<table>\w+)\s+add\s+column\s+(?:if\s+not\s+exists\s+)?(?P<column>\w+)
    """,
    re.VERBOSE | re.IGNORECASE,
)


_REPLACED = re.compile(r"create\s+or\s+replace\s+function\s+(?:public\.)?(?P<name>\w+)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class DuplicateFingerprint:
    """A fingerprint with several rows: the start of its SHA-256, and the number of rows."""

    hash: str
    rows: int


@dataclass(frozen=True, slots=True)
class Installation:
    """The state of ``prospect_tracking`` and ``update_prospect_data`` in a database.

    Attributes:
        has_table: Whether the table exists. If not, the fields about the table are empty.
        table_is_ours: Whether our migrations made the table.
        estimated_rows: The row count in the planner's statistics.
        problems: Why the migrations cannot be applied.
        obstacles: Why the mode ``tables`` cannot write to the table after the migrations.
        remarks: Differences that will remain between this table and one made by the migrations.
        duplicates: Some fingerprints with several rows, those with the most rows first.
        duplicate_count: The number of all such fingerprints.
        has_person_index: Whether an index allows a fingerprint only once for each tenant.
        functions: Signature -> whether our migrations made the function.
        existing: The objects in the schema, as ``<kind> <name>``.
    """

    has_table: bool
    table_is_ours: bool
    estimated_rows: int
    problems: tuple[str, ...]
    obstacles: tuple[str, ...]
    remarks: tuple[str, ...]
    duplicates: tuple[DuplicateFingerprint, ...]
    duplicate_count: int
    has_person_index: bool
    functions: dict[str, bool]
    existing: frozenset[str]


async def inspect_installation(connection: AnyConnection) -> Installation:
    """Inspect the database in the caller's transaction."""
    table = await connection.fetchrow(_TABLE)
    columns = {row["name"]: row for row in await connection.fetch(_COLUMNS)}
    unique = [set(row["columns"]) for row in await connection.fetch(_UNIQUE)]
    functions = {row["signature"]: row["ours"] for row in await connection.fetch(_FUNCTIONS)}
    problems = _problems(table["kind"], columns) if table else ()
    duplicates: Sequence[Any] = ()
    # The sink's login may not read rows before the last file is applied.
    if table and table["readable"] and not problems:
        query = _DUPLICATES_BY_TENANT if "tenant_id" in columns else _DUPLICATES
        duplicates = await connection.fetch(query, _SHOWN_DUPLICATES)
    return Installation(
        has_table=table is not None,
        table_is_ours=bool(table and table["ours"]),
        estimated_rows=table["estimated_rows"] if table else 0,
        problems=problems,
        obstacles=_obstacles(columns),
        remarks=_remarks(unique),
        duplicates=tuple(DuplicateFingerprint(row["hash"], row["rows"]) for row in duplicates),
        duplicate_count=duplicates[0]["of"] if duplicates else 0,
        has_person_index={"tenant_id", "fingerprint_id"} in unique,
        functions=functions,
        existing=frozenset(name for (name,) in await connection.fetch(_EXISTING)),
    )


async def make_person_index(connection: AnyConnection, found: Installation) -> bool:
    """Make the unique index that the migrations left out, if no duplicates remain. Return True if it was made."""
    if not found.has_table or found.has_person_index or found.duplicate_count:
        return False
    await connection.execute(_MAKE_INDEX)
    return True


def objects_made_by(statements: Sequence[str]) -> list[str]:
    """Return the objects that the statements make, as ``<kind> <name>``, in order and without repeats."""
    made: dict[str, None] = {}
    for statement in statements:
        for match in _MADE.finditer(without_comments(statement)):
            if match["column"]:
                made[f"column {match['table']}.{match['column']}"] = None
            elif match["kind"].lower() == "policy":
                made[f"policy {match['name']} on {match['on']}"] = None
            else:
                made[f"{match['kind'].lower().split()[-1]} {match['name']}"] = None
    return list(made)


def objects_replaced_by(statements: Sequence[str]) -> set[str]:
    """Return the functions that the statements create or replace, in the form of `objects_made_by`."""
    return {
        f"function {match['name']}"
        for statement in statements
        for match in _REPLACED.finditer(without_comments(statement))
    }


def _problems(kind: str, columns: dict[str, Any]) -> tuple[str, ...]:
    if kind not in {"r", "p"}:
        return ("public.prospect_tracking is not a table",)
    wanted = {"fingerprint_id": ("text", "character varying"), "prospect_data": ("jsonb",), "tenant_id": ("text",)}
    found: list[str] = []
    for name, types in wanted.items():
        if name not in columns:
            if name != "tenant_id":
                found.append(f"prospect_tracking has no column {name}")
        elif columns[name]["type"] not in types:
            found.append(f"prospect_tracking.{name} is {columns[name]['type']} and must be {types[0]}")
    return tuple(found)


def _obstacles(columns: dict[str, Any]) -> tuple[str, ...]:
    ours = {"tenant_id", "fingerprint_id", "prospect_data", "merged_keys"}
    return tuple(
        f"prospect_tracking.{name} must have a value and has no default"
        for name, column in columns.items()
        if column["needs_value"] and name not in ours
    )


def _remarks(unique: Sequence[set[str]]) -> tuple[str, ...]:
    if {"fingerprint_id"} in unique:
        return ("prospect_tracking allows a fingerprint once: two tenants cannot have the same fingerprint",)
    return ()
