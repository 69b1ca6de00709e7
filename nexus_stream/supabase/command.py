"""``nexus migrate``: apply the database migrations, or show which are missing."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import click

from nexus_stream.settings import load_settings
from nexus_stream.supabase.migrate import apply_migrations, plan_migrations
from nexus_stream.supabase.pool import target_of

__all__ = ["command"]


@click.command(name="migrate")
@click.option(
    "--plan", is_flag=True, help="Show what would be applied and change nothing. Exit 1 when something is missing."
)
@click.option(
    "--directory",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Where the migrations are. Default: supabase/migrations beside the package.",
)
def command(plan: bool, directory: Path | None) -> None:
    """Apply the database migrations to SUPABASE_DB_URL.

    The ledger is the Supabase CLI's, so either tool can be used on one database.
    """
    target = target_of(load_settings())
    if plan:
        _show_plan(target.dsn, directory)
        return
    applied = asyncio.run(apply_migrations(target.dsn, directory))
    for name in applied:
        click.echo(f"applied {name}")
    click.echo(f"{target}: {len(applied)} migration(s) applied" if applied else f"{target}: up to date")


def _show_plan(dsn: str, directory: Path | None) -> None:
    found = asyncio.run(plan_migrations(dsn, directory))
    for migration in found.applied:
        click.echo(f"{migration}: applied")
    for migration in found.pending:
        click.echo(f"{migration}: missing, {len(migration.statements)} statements")
    if found.foreign:
        click.echo(f"{len(found.foreign)} other migration(s) in the ledger are not ours and stay as they are")
    sys.exit(1 if found.pending else 0)
