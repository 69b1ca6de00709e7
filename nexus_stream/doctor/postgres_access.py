"""Check that access rights match the migrations: the sink has only what it needs, and browser roles have nothing.

Each finding contains the SQL that fixes it. `EXPECTED_TABLES` and `SINK_FUNCTIONS` repeat supabase/migrations. A test
compares them with a freshly migrated database.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, LiteralString

from nexus_stream.doctor.finding import Finding, error, note, ok, warning
from nexus_stream.settings import Settings

if TYPE_CHECKING:
    from asyncpg import Connection

__all__ = ["EXPECTED_TABLES", "SINK_FUNCTIONS", "check_access", "judge_access"]

EXPECTED_TABLES: Final[Mapping[str, frozenset[str]]] = {
    "prospect_tracking": frozenset({"SELECT", "INSERT", "UPDATE", "DELETE"}),
    "prospect_sessions": frozenset({"SELECT", "INSERT", "UPDATE"}),
    "prospect_contributions": frozenset({"SELECT", "INSERT", "UPDATE"}),
    "prospect_suppressions": frozenset({"SELECT"}),
    "privacy_audit": frozenset(),
}
# Functions that the sink's statements call, and functions that these call in turn.
SINK_FUNCTIONS: Final = frozenset(
    {
        "nexus_refresh_people(text[],text[])",
        "nexus_forget_suppressed(text[],text[])",
        "nexus_contribute(text,text,jsonb)",
        "nexus_erase_session(text,text,text[],text,timestamp with time zone)",
        "nexus_expire_session(text,text,bigint)",
        "nexus_subject_hash(text,text,text)",
        "nexus_fold(text,text)",
        "nexus_merge(jsonb[],boolean[],text[])",
        "nexus_facts_about(text,text)",
    }
)
_BROWSERS: Final = ("anon", "authenticated")

_TABLES: LiteralString = """
SELECT c.relname AS name, c.relrowsecurity AS has_rls,
    coalesce(obj_description(c.oid, 'pg_class'), '') LIKE '%Made by nexus-stream.' OR c.relname <> 'prospect_tracking'
        AS ours,
    coalesce(ARRAY(
        SELECT DISTINCT a.privilege_type FROM aclexplode(c.relacl) a WHERE a.grantee = to_regrole('nexus_sink')
    ), '{}') AS sink,
    EXISTS (SELECT FROM pg_catalog.pg_policy p WHERE p.polrelid = c.oid
        AND p.polroles @> ARRAY[to_regrole('nexus_sink')::oid]) AS has_policy,
    ARRAY(
        SELECT r.rolname::text FROM pg_catalog.pg_roles r WHERE r.rolname = ANY ($2)
            AND has_table_privilege(r.oid, c.oid, 'select, insert, update, delete, truncate')
    ) AS browsers
FROM pg_catalog.pg_class c
WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p') AND c.relname = ANY ($1)
ORDER BY c.relname
"""
_FUNCTIONS: LiteralString = """
SELECT replace(p.oid::regprocedure::text, 'public.', '') AS signature,
    has_function_privilege(to_regrole('nexus_sink'), p.oid, 'execute') AS sink,
    ARRAY(
        SELECT r.rolname::text FROM pg_catalog.pg_roles r WHERE r.rolname = ANY ($1)
            AND has_function_privilege(r.oid, p.oid, 'execute')
    ) AS browsers
FROM pg_catalog.pg_proc p
WHERE p.pronamespace = 'public'::regnamespace AND (p.proname LIKE 'nexus\\_%' OR (
    p.proname = 'update_prospect_data' AND coalesce(obj_description(p.oid, 'pg_proc'), '') LIKE '%Made by nexus-stream.'
))
ORDER BY 1
"""


async def check_access(settings: Settings, connection: Connection[Any]) -> list[Finding]:
    """Query the catalog, and judge the rights."""
    if await connection.fetchval("SELECT to_regrole('nexus_sink') IS NULL"):
        why = "The sink's login gets its rights through this role."
        return [error("postgresql.grants", "the role nexus_sink does not exist", why, "nexus migrate")]
    tables = await connection.fetch(_TABLES, list(EXPECTED_TABLES), list(_BROWSERS))
    functions = await connection.fetch(_FUNCTIONS, list(_BROWSERS))
    return judge_access([dict(row) for row in tables], [dict(row) for row in functions])


def judge_access(tables: Sequence[Mapping[str, Any]], functions: Sequence[Mapping[str, Any]]) -> list[Finding]:
    """Compare the rights with the migrations.

    Args:
        tables: ``name, has_rls, ours, sink`` (privileges), ``has_policy, browsers`` (roles with any privilege).
        functions: ``signature, sink, browsers``.
    """
    findings = [finding for table in tables for finding in _table(table)]
    lacking = [
        function["signature"]
        for function in functions
        if function["signature"] in SINK_FUNCTIONS and not function["sink"]
    ]
    if lacking:
        found = f"nexus_sink may not execute {', '.join(lacking)}"
        fix = "; ".join(f"grant execute on function public.{signature} to nexus_sink" for signature in lacking)
        findings.append(error("postgresql.grants", found, "The sink stops at its first batch (42501).", fix))
    for role in _BROWSERS:
        open_to = [function["signature"] for function in functions if role in function["browsers"]]
        if open_to:
            found = f"{role} may execute {', '.join(open_to)}"
            fix = "; ".join(
                f"revoke execute on function public.{signature} from public, {role}" for signature in open_to
            )
            findings.append(error("postgresql.browser_roles", found, _WHY_BROWSERS, fix))
    if not findings and tables:
        findings.append(ok("postgresql.grants", "rights and row level security match the migrations"))
    return findings


_WHY_BROWSERS: Final = "Any website visitor can use this with the project's public key: personal data is exposed."


def _table(table: Mapping[str, Any]) -> list[Finding]:
    name, wanted, has = table["name"], EXPECTED_TABLES[table["name"]], frozenset(table["sink"])
    findings = []
    if missing := sorted(wanted - has):
        listed = ", ".join(missing).lower()
        fix = f"grant {listed} on public.{name} to nexus_sink"
        found = f"nexus_sink lacks {listed} on {name}"
        findings.append(error("postgresql.grants", found, "The sink stops at its first batch (42501).", fix))
    if extra := sorted(has - wanted):
        listed = ", ".join(extra).lower()
        why = "A stolen sink password gives more access than the sink needs."
        fix = f"revoke {listed} on public.{name} from nexus_sink"
        findings.append(
            warning("postgresql.grants", f"nexus_sink has {listed} on {name}, beyond the migrations", why, fix)
        )
    if not table["has_rls"]:
        found = f"{name}: row level security is off"
        fix = f"alter table public.{name} enable row level security"
        if not table["ours"]:
            why = "The table existed before the migrations, so they did not change its access."
            findings.append(note("postgresql.rls", found, why, f"{fix}, after every user of the table has a policy"))
        else:
            why = "Any grant to a browser role exposes every row."
            findings.append(error("postgresql.rls", found, why, fix))
    elif wanted and not table["has_policy"]:
        found = f"{name}: row level security is on, but no policy allows nexus_sink"
        commands = "for select" if wanted == {"SELECT"} else "for all"
        check = "" if wanted == {"SELECT"} else " with check (true)"
        fix = f"create policy nexus_sink_all on public.{name} {commands} to nexus_sink using (true){check}"
        findings.append(error("postgresql.rls", found, "The sink sees no row and cannot write one.", fix))
    if table["browsers"] and table["ours"]:
        roles = ", ".join(table["browsers"])
        fix = f"revoke all on public.{name} from public, {roles}"
        findings.append(error("postgresql.browser_roles", f"{roles} may use {name}", _WHY_BROWSERS, fix))
    return findings
