"""Check that the migrations are applied, and that the sink's mode works with the existing tables.

The check reads the migration ledger. If the login may not read the ledger, the check looks for the objects themselves.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nexus_stream.doctor.finding import Finding, error, note, ok
from nexus_stream.doctor.running import REACH_SECONDS
from nexus_stream.errors import ConfigurationError, EarlierCheckoutError
from nexus_stream.settings import Settings
from nexus_stream.supabase.function_mode import find_function
from nexus_stream.supabase.inspection import inspect_installation, objects_made_by
from nexus_stream.supabase.migrate import Migration, Plan, load_migrations, plan_migrations
from nexus_stream.supabase.pool import connect_once
from nexus_stream.supabase.target import Target

if TYPE_CHECKING:
    from asyncpg import Connection

__all__ = ["check_function", "check_migrations", "judge_plan"]

# The kinds of objects that `inspect_installation` lists and this check compares.
_COUNTED = ("table ", "function ", "column ", "role ")
_SHOWN = 3


async def check_migrations(settings: Settings, target: Target) -> list[Finding]:
    """Compare the migration files with the ledger and the existing objects."""
    try:
        plan = await plan_migrations(target.dsn)
    except EarlierCheckoutError as failure:
        why = "`nexus migrate` refuses the database. A function of the sink may be missing or different."
        return [error("postgresql.migrations", failure.found, why, failure.fix)]
    except ConfigurationError as failure:
        if "[42501]" not in str(failure):
            why = "The database differs from the migration files. A function of the sink may be missing or different."
            fix = "Run nexus migrate --plan, and do what it says."
            return [error("postgresql.migrations", str(failure), why, fix)]
        # The sink's own login may not read the ledger. Then look for the objects that the files make.
        async with connect_once(target, REACH_SECONDS) as connection, connection.transaction(readonly=True):
            installation = await inspect_installation(connection)
        plan = Plan((), tuple(load_migrations()), (), (), installation)
    return judge_plan(settings, plan)


def judge_plan(settings: Settings, plan: Plan) -> list[Finding]:
    """Report missing migrations, and problems of an older installation."""
    findings = []
    there = plan.installation.existing
    absent = {str(migration): missing for migration in plan.pending if (missing := _missing(migration, there))}
    if absent:
        missing = [made for each in absent.values() for made in each]
        shown = ", ".join(missing[:_SHOWN]) + (f" and {len(missing) - _SHOWN} more" if len(missing) > _SHOWN else "")
        found = f"{len(absent)} migration(s) are not applied ({', '.join(absent)}): {shown} missing"
        findings.append(error("postgresql.migrations", found, "The sink stops at its first batch.", "nexus migrate"))
    elif plan.pending and plan.applied:
        names = ", ".join(map(str, plan.pending))
        if plan.pending[0].version > plan.applied[-1].version:
            # Newer files that only replace the bodies of functions.
            found = f"{len(plan.pending)} migration(s) are not applied ({names})"
        else:
            # All objects exist, but the ledger lacks entries: `supabase db reset`.
            found = f"{names}: not in the ledger, but their objects exist"
        why = "Functions may have an older version."
        findings.append(error("postgresql.migrations", found, why, "nexus migrate"))
    elif plan.newer:
        found = f"{len(plan.applied)} migration(s) applied, and {', '.join(plan.newer)} of a newer version"
        findings.append(note("postgresql.migrations", found, "A newer version of nexus-stream migrated the database."))
    else:
        count = len(plan.applied) or len(plan.pending)
        how = "" if plan.applied else ", judged by the existing objects: this login cannot read the ledger"
        findings.append(ok("postgresql.migrations", f"{count} migration(s) applied{how}"))
    if settings.sink_mode == "tables" and not absent:
        findings += _tables_mode(plan)
    return findings


def _tables_mode(plan: Plan) -> list[Finding]:
    found = plan.installation
    findings = [
        error(
            "postgresql.tables",
            obstacle,
            "The sink cannot insert a person.",
            "Give the column a default, or set NEXUS_SINK_MODE=function",
        )
        for obstacle in found.obstacles
    ]
    if found.duplicate_count:
        what = f"{found.duplicate_count} fingerprint(s) have several rows in prospect_tracking"
        why = "Duplicates prevent the unique index, and the sink in mode tables fails without the index."
        query = "select fingerprint_id, count(*) from prospect_tracking group by 1 having count(*) > 1"
        fix = f"{query}; keep one row each, then nexus migrate"
        findings.append(error("postgresql.tables", what, why, fix))
    elif found.has_table and not found.has_person_index:
        why = "The sink's ON CONFLICT needs this index (42P10)."
        findings.append(error("postgresql.tables", "prospect_tracking has no unique index", why, "nexus migrate"))
    return findings


def _missing(migration: Migration, there: frozenset[str]) -> list[str]:
    made = objects_made_by(migration.statements)
    missing = [name for name in made if name.startswith(_COUNTED) and name not in there]
    policies = [name for name in made if name.startswith("policy ")]
    # If only some policies are missing, an operator dropped them: postgres_access.py reports them, with the SQL.
    return missing if there.intersection(policies) else missing + policies


async def check_function(settings: Settings, connection: Connection[Any]) -> list[Finding]:
    """In the mode ``function``: check that the sink can call ``update_prospect_data``."""
    try:
        call = await find_function(connection, settings.tenant_constructors)
    except ConfigurationError as failure:
        why = "The sink stops at its start."
        return [error("postgresql.function", str(failure), why, "Do what the message says, or NEXUS_SINK_MODE=tables")]
    return [ok("postgresql.function", f"{call.signature} can be called")]
