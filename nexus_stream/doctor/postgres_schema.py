"""Whether the migrations are applied, and whether the sink's mode can work on what is there.

From: postgres_checks.py. To: findings. The ledger is read where the login may; else the objects themselves are counted.
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

# What the catalog's list has, for `inspect_installation`.
_COUNTED = ("table ", "function ", "column ", "role ")
_SHOWN = 3


async def check_migrations(settings: Settings, target: Target) -> list[Finding]:
    """Compare files, ledger and what is there."""
    try:
        plan = await plan_migrations(target.dsn)
    except EarlierCheckoutError as failure:
        why = "`nexus migrate` refuses the database, and what the sink calls may be missing or another."
        return [error("postgresql.migrations", failure.found, why, failure.fix)]
    except ConfigurationError as failure:
        if "[42501]" not in str(failure):
            why = "The database is not as the files say: what the sink calls may be missing or another."
            fix = "nexus migrate --plan shows it; do what it says."
            return [error("postgresql.migrations", str(failure), why, fix)]
        # A login of the sink's own may not read the ledger: then what the files make is looked for.
        async with connect_once(target, REACH_SECONDS) as connection, connection.transaction(readonly=True):
            installation = await inspect_installation(connection)
        plan = Plan((), tuple(load_migrations()), (), (), installation)
    return judge_plan(settings, plan)


def judge_plan(settings: Settings, plan: Plan) -> list[Finding]:
    """What is missing, and what of an older installation is in the way."""
    findings = []
    there = plan.installation.existing
    absent = {str(migration): missing for migration in plan.pending if (missing := _missing(migration, there))}
    if absent:
        missing = [made for each in absent.values() for made in each]
        shown = ", ".join(missing[:_SHOWN]) + (f" and {len(missing) - _SHOWN} more" if len(missing) > _SHOWN else "")
        found = f"{len(absent)} migration(s) are not applied ({', '.join(absent)}): {shown} missing"
        findings.append(error("postgresql.migrations", found, "The sink stops at its first batch.", "nexus migrate"))
    elif plan.pending and plan.applied:
        # All of it is there, and the ledger says otherwise: `supabase db reset`, or a file that only replaces bodies.
        found = f"{', '.join(map(str, plan.pending))}: not in the ledger, although what they make is there"
        why = "Functions may be of an older version."
        findings.append(error("postgresql.migrations", found, why, "nexus migrate"))
    elif plan.newer:
        found = f"{len(plan.applied)} migration(s) applied, and of a newer version {', '.join(plan.newer)}"
        findings.append(note("postgresql.migrations", found, "A newer version of nexus-stream made the database."))
    else:
        count = len(plan.applied) or len(plan.pending)
        how = "" if plan.applied else " by what is there; the ledger cannot be read with this login"
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
            "Give it a default, or NEXUS_SINK_MODE=function",
        )
        for obstacle in found.obstacles
    ]
    if found.duplicate_count:
        what = f"{found.duplicate_count} fingerprint(s) stand on several rows of prospect_tracking"
        why = "Which row counts is not known, so the unique index is missing, and the sink in mode tables fails."
        query = "select fingerprint_id, count(*) from prospect_tracking group by 1 having count(*) > 1"
        fix = f"{query}; keep one row each, then nexus migrate"
        findings.append(error("postgresql.tables", what, why, fix))
    elif found.has_table and not found.has_person_index:
        why = "The sink's ON CONFLICT finds no index to go by (42P10)."
        findings.append(error("postgresql.tables", "prospect_tracking has no unique index", why, "nexus migrate"))
    return findings


def _missing(migration: Migration, there: frozenset[str]) -> list[str]:
    made = objects_made_by(migration.statements)
    missing = [name for name in made if name.startswith(_COUNTED) and name not in there]
    policies = [name for name in made if name.startswith("policy ")]
    # One missing policy was dropped by hand: postgres_access.py tells it, with the SQL.
    return missing if there.intersection(policies) else missing + policies


async def check_function(settings: Settings, connection: Connection[Any]) -> list[Finding]:
    """In the mode ``function``: whether ``update_prospect_data`` can be called as the sink calls it."""
    try:
        call = await find_function(connection, settings.tenant_constructors)
    except ConfigurationError as failure:
        why = "The sink stops at its start."
        return [error("postgresql.function", str(failure), why, "As the message says, or NEXUS_SINK_MODE=tables")]
    return [ok("postgresql.function", f"{call.signature} can be called")]
