"""``nexus migrate``: apply the database migrations, or show which are missing and what they would change."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import click

from nexus_stream.settings import load_settings
from nexus_stream.supabase.inspection import Installation, objects_made_by, objects_replaced_by
from nexus_stream.supabase.migrate import Plan, apply_migrations, plan_migrations
from nexus_stream.supabase.pool import target_of

__all__ = ["command"]


@click.command(name="migrate")
@click.option(
    "--plan", is_flag=True, help="Show the missing migrations and change nothing. Exit 1 if something is missing."
)
@click.option(
    "--directory",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder of the migrations. Default: supabase/migrations beside the package.",
)
def command(plan: bool, directory: Path | None) -> None:
    """Apply the database migrations to SUPABASE_DB_URL.

    The ledger is the Supabase CLI's, so either tool can be used on one database. The migrations add tables, columns,
    indexes and functions, and replace earlier functions of nexus-stream. They do not change your own objects.
    """
    settings = load_settings()
    target = target_of(settings)
    if plan:
        found = asyncio.run(plan_migrations(target.dsn, directory))
        _show(found)
        needs_index = settings.sink_mode == "tables" and _lacks_index(found.installation)
        sys.exit(1 if found.pending or needs_index else 0)
    applied = asyncio.run(apply_migrations(target.dsn, directory))
    for name in applied:
        click.echo(f"applied {name}")
    click.echo(f"{target}: {len(applied)} migration(s) applied" if applied else f"{target}: up to date")
    found = asyncio.run(plan_migrations(target.dsn, directory))
    _show_newer(found)
    if directory is None:
        installation = found.installation
        _show_installation(installation)
        if settings.sink_mode == "tables" and (_lacks_index(installation) or installation.obstacles):
            sys.exit(1)


def _show(plan: Plan) -> None:
    for migration in plan.applied:
        click.echo(f"{migration}: applied")
    there = set(plan.installation.existing)
    for migration in plan.pending:
        click.echo(f"{migration}: missing, {len(migration.statements)} statements")
        replaced = objects_replaced_by(migration.statements)
        for made in objects_made_by(migration.statements):
            if made in replaced:
                click.echo(f"  ~ {made}: replaced by a newer version")
                continue
            kept = made in there or (made == "function update_prospect_data" and bool(plan.installation.functions))
            click.echo(f"  = {made}: exists and stays" if kept else f"  + {made}")
        # A later file may need a column that this file adds.
        there.update(name for name in objects_made_by(migration.statements) if name.startswith("column "))
    _show_newer(plan)
    if plan.foreign:
        click.echo(f"{len(plan.foreign)} migration(s) of other programs in the ledger stay unchanged")
    _show_installation(plan.installation, pending=bool(plan.pending))


def _show_newer(plan: Plan) -> None:
    if plan.newer:
        click.echo(f"made by a newer version of nexus-stream, which also applied {', '.join(plan.newer)}")


def _show_installation(found: Installation, *, pending: bool = False) -> None:
    if found.has_table and not found.table_is_ours:
        click.echo(f"prospect_tracking existed before (about {found.estimated_rows} rows): its rows and rights stay")
        if pending and not found.problems:
            click.echo("  its rows are merged by their last update time")
    for signature, ours in found.functions.items():
        if not ours:
            click.echo(f"{signature} existed before and stays unchanged: NEXUS_SINK_MODE=function calls it")
    for problem in found.problems:
        click.echo(f"! {problem}: the migrations cannot be applied")
    for obstacle in found.obstacles:
        click.echo(f"! {obstacle}: NEXUS_SINK_MODE=tables cannot write to it, function can")
    for remark in found.remarks:
        click.echo(f"! {remark}")
    if found.duplicate_count:
        click.echo(
            f"! {found.duplicate_count} fingerprint(s) have several rows in prospect_tracking. Until each has one row, "
            "there is no unique index, and only NEXUS_SINK_MODE=function works."
        )
        for duplicate in found.duplicates:
            click.echo(f"    sha256 {duplicate.hash}…: {duplicate.rows} rows")
        click.echo(
            "  To find them: select fingerprint_id, count(*) from prospect_tracking group by 1 having count(*) > 1"
        )
    elif not pending and _lacks_index(found):
        click.echo("! the unique index of prospect_tracking is missing: run `nexus migrate`")


def _lacks_index(found: Installation) -> bool:
    return bool(found.duplicate_count) or (found.has_table and not found.has_person_index)
