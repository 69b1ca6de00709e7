"""Apply supabase/migrations/ to a database, in order, each file in its own transaction.

To: PostgreSQL, and the ledger ``supabase_migrations.schema_migrations``. The ledger is the Supabase CLI's (its
pkg/migration/history.go), so each of the two tools can continue the other's work. Files of nexus-stream are named
``<version>_nexus_stream_<subject>.sql``. Ledger entries of other projects are not changed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import asyncpg

from nexus_stream.errors import ConfigurationError, EarlierCheckoutError, NexusError
from nexus_stream.host.log import get_logger
from nexus_stream.supabase.inspection import Installation, inspect_installation, make_person_index
from nexus_stream.supabase.pool import connect_once, to_nexus_error
from nexus_stream.supabase.sqlstates import Failure, classify, describe
from nexus_stream.supabase.statements import essence, split_statements
from nexus_stream.supabase.target import Target, parse_target

if TYPE_CHECKING:
    from asyncpg import Connection

__all__ = ["Migration", "Plan", "apply_migrations", "load_migrations", "plan_migrations"]

_log = get_logger(__name__)

_FILE_NAME = re.compile(r"^([0-9]+)_(.*)\.sql$")
_CONNECT_TIMEOUT_SECONDS = 10.0
# If another migration or a long transaction holds the tables, fail instead of blocking all readers.
_LOCK_TIMEOUT = "10s"
# Any fixed number. The process that migrates holds this lock until commit.
_ADVISORY_LOCK = 7_303_014_261_124

# The names of all nexus-stream files begin so. If such a name is unknown, another version of nexus-stream applied it.
_OUR_NAME = "nexus_stream_"
# The earlier files, version -> name. They were never released.
_REPLACED = {
    "20261124000100": "prospect_tables",
    "20261124000200": "prospect_fold",
    "20261124000300": "prospect_writers",
    "20261124000400": "prospect_roles",
    "20261124000500": "privacy",
    "20261124000600": "corrections",
}
# docs/howto/upgrade.md explains the steps; a test runs them.
_START_ANEW = """A database of `nexus dev` (`make dev`): run `nexus dev reset`. The next start makes an empty database.
Any other database: stop the workers, make a backup, and run these commands in the checkout's folder:
  pg_dump "$SUPABASE_DB_URL" --data-only --file=rows.sql --table=public.prospect_sessions \\
    --table=public.prospect_contributions --table=public.prospect_suppressions --table=public.privacy_audit
  psql "$SUPABASE_DB_URL" --set=ON_ERROR_STOP=1 --file=supabase/remove.sql
  nexus migrate
  psql "$SUPABASE_DB_URL" --set=ON_ERROR_STOP=1 --single-transaction --file=rows.sql
  rm rows.sql
docs/howto/upgrade.md explains the commands."""

_LEDGER = (
    "CREATE SCHEMA IF NOT EXISTS supabase_migrations",
    "CREATE TABLE IF NOT EXISTS supabase_migrations.schema_migrations (version text NOT NULL PRIMARY KEY)",
    "ALTER TABLE supabase_migrations.schema_migrations ADD COLUMN IF NOT EXISTS statements text[]",
    "ALTER TABLE supabase_migrations.schema_migrations ADD COLUMN IF NOT EXISTS name text",
)


@dataclass(frozen=True, slots=True)
class Migration:
    """One file, ``<version>_<name>.sql``."""

    version: str
    name: str
    statements: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.version}_{self.name}"


@dataclass(frozen=True, slots=True)
class Plan:
    """The applied and the pending migrations, and the existing objects of the database.

    Attributes:
        newer: Migrations of a newer nexus-stream, ``<version>_<name>``. This version also works with them.
        foreign: Ledger versions of other projects.
    """

    applied: tuple[Migration, ...]
    pending: tuple[Migration, ...]
    newer: tuple[str, ...]
    foreign: tuple[str, ...]
    installation: Installation


@dataclass(frozen=True, slots=True)
class _Ledger:
    applied: tuple[Migration, ...]
    pending: tuple[Migration, ...]
    newer: tuple[str, ...]
    foreign: tuple[str, ...]


def load_migrations(directory: Path | None = None) -> list[Migration]:
    """Load the files of a directory, oldest first.

    Args:
        directory: Default: supabase/migrations/ beside the package.

    Raises:
        ConfigurationError: there is no such directory, or two files have one version.
    """
    directory = directory or Path(__file__).resolve().parents[2] / "supabase" / "migrations"
    if not directory.is_dir():
        raise ConfigurationError(f"No folder {directory}. Name the migrations' folder: nexus migrate --directory DIR")
    found: dict[str, Migration] = {}
    for path in sorted(directory.glob("*.sql")):
        matched = _FILE_NAME.fullmatch(path.name)
        if matched is None:
            raise ConfigurationError(f"{path}: a migration is named <YYYYMMDDHHMMSS>_<name>.sql")
        version, name = matched.groups()
        if version in found:
            raise ConfigurationError(f"{path}: {found[version]}.sql has the same version. Change one of them.")
        found[version] = Migration(version, name, tuple(split_statements(path.read_text(encoding="utf-8"))))
    return [found[version] for version in sorted(found)]


async def plan_migrations(dsn: str, directory: Path | None = None) -> Plan:
    """Compare files and ledger. Changes nothing.

    Raises:
        ConfigurationError: a file was changed after it was applied; or a pending file is older than an applied one; or
            the login has no access.
        EarlierCheckoutError: an earlier checkout made the database, with files that were replaced since.
        DatabaseUnavailableError: the database does not answer.
    """
    migrations = load_migrations(directory)
    target = parse_target(dsn)
    async with connect_once(target, _CONNECT_TIMEOUT_SECONDS) as connection:
        try:
            async with connection.transaction(isolation="repeatable_read", readonly=True):
                exists = await connection.fetchval(
                    "SELECT to_regclass('supabase_migrations.schema_migrations') IS NOT NULL"
                )
                recorded = await _recorded(connection) if exists else {}
                installation = await inspect_installation(connection)
        except asyncpg.PostgresError as error:
            raise to_nexus_error(error, target) from error
    ledger = _compare(migrations, recorded, target)
    return Plan(ledger.applied, ledger.pending, ledger.newer, ledger.foreign, installation)


async def apply_migrations(dsn: str, directory: Path | None = None) -> list[str]:
    """Apply the pending files. Safe to run again, and from several machines at once.

    Returns:
        The names of the applied files, ``<version>_<name>``.

    Raises:
        ConfigurationError: as `plan_migrations`; or an older ``prospect_tracking`` does not fit the files; or a
            statement fails. Then its file is rolled back.
        DatabaseUnavailableError: the database does not answer, or another session locks the tables.
    """
    migrations = load_migrations(directory)
    target = parse_target(dsn)
    async with connect_once(target, _CONNECT_TIMEOUT_SECONDS) as connection:
        try:
            async with connection.transaction():
                await _lock(connection)
                if problems := (await inspect_installation(connection)).problems:
                    raise ConfigurationError(f"Database {target}: {'; '.join(problems)}. Nothing was changed.")
                await _execute(connection, _LEDGER, "the ledger", target)
                _compare(migrations, await _recorded(connection), target)
            applied = [
                str(migration) for migration in migrations if await _apply(connection, migration, migrations, target)
            ]
            if directory is None:
                await _make_person_index(connection)
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
            raise to_nexus_error(error, target) from error
    return applied


async def _apply(
    connection: Connection[Any], migration: Migration, migrations: Sequence[Migration], target: Target
) -> bool:
    async with connection.transaction():
        await _lock(connection)
        # Compare again under the lock: another process may have applied the file meanwhile.
        plan = _compare(migrations, await _recorded(connection), target)
        if migration not in plan.pending:
            return False
        await _execute(connection, migration.statements, f"{migration}.sql", target)
        await connection.execute(
            "INSERT INTO supabase_migrations.schema_migrations (version, name, statements) VALUES ($1, $2, $3)",
            migration.version,
            migration.name,
            list(migration.statements),
        )
    _log.info("migration_applied", migration=str(migration))
    return True


async def _make_person_index(connection: Connection[Any]) -> None:
    """Make the index that the files left out because of duplicate fingerprints, if there are none now."""
    async with connection.transaction():
        await _lock(connection)
        if await make_person_index(connection, await inspect_installation(connection)):
            _log.info("person_index_made")


async def _lock(connection: Connection[Any]) -> None:
    # Waits until another migration ends. Afterwards there is usually nothing left to apply.
    await connection.execute("SELECT pg_advisory_xact_lock($1)", _ADVISORY_LOCK)
    await connection.execute("SELECT set_config('lock_timeout', $1, true)", _LOCK_TIMEOUT)


async def _execute(connection: Connection[Any], statements: Sequence[str], origin: str, target: Target) -> None:
    for number, statement in enumerate(statements, start=1):
        try:
            await connection.execute(statement)
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
            raise _statement_error(error, f"{origin}, statement {number}", target) from error


def _statement_error(error: Exception, where: str, target: Target) -> NexusError:
    if isinstance(error, asyncpg.PostgresError) and classify(error) is not Failure.TRANSIENT:
        # The detail may quote a row, for example a duplicate fingerprint of an older table.
        error.detail = None
        return ConfigurationError(
            f"Database {target}: {where} failed and was undone: {error} [{error.sqlstate}] {describe(error)}"
        )
    return to_nexus_error(error, target)


async def _recorded(connection: Connection[Any]) -> dict[str, tuple[str | None, list[str] | None]]:
    rows = await connection.fetch("SELECT version, name, statements FROM supabase_migrations.schema_migrations")
    return {row["version"]: (row["name"], row["statements"]) for row in rows}


def _compare(
    migrations: Sequence[Migration], recorded: Mapping[str, tuple[str | None, list[str] | None]], target: Target
) -> _Ledger:
    newer, foreign = _unknown(migrations, recorded, target)
    problems: list[str] = []
    applied = [migration for migration in migrations if migration.version in recorded]
    pending = [migration for migration in migrations if migration.version not in recorded]
    for migration in applied:
        name, statements = recorded[migration.version]
        if name and name != migration.name:
            problems.append(
                f"{migration}.sql: version {migration.version} was applied as {name!r}. Another project uses this "
                "database and this version: rename the file with another version."
            )
        elif statements and essence(statements) != essence(migration.statements):
            problems.append(
                f"{migration}.sql was changed after it was applied. Restore it, and put the change into a new file."
            )
    problems += [
        f"{migration}.sql is not applied, but the newer {applied[-1]}.sql is. Give the first file a newer version."
        for migration in pending
        if applied and migration.version < applied[-1].version
    ]
    if problems:
        raise ConfigurationError("\n".join([f"Database {target}: migrations and ledger do not agree:", *problems]))
    return _Ledger(tuple(applied), tuple(pending), newer, foreign)


def _unknown(
    migrations: Sequence[Migration], recorded: Mapping[str, tuple[str | None, list[str] | None]], target: Target
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Ledger versions without a file: those of a newer nexus-stream, and those of other projects."""
    unknown = sorted(recorded.keys() - {migration.version for migration in migrations})
    newest = max((migration.version for migration in migrations if migration.name.startswith(_OUR_NAME)), default=None)
    if newest is None:
        return (), tuple(unknown)
    names = {version: recorded[version][0] or "" for version in unknown}
    ours = [
        version
        for version in unknown
        if names[version].startswith(_OUR_NAME) or names[version] == _REPLACED.get(version)
    ]
    if earlier := [f"{version}_{names[version]}" for version in ours if version < newest]:
        raise EarlierCheckoutError(
            f"Database {target} was made by an earlier checkout of nexus-stream, whose migrations were replaced since. "
            f"Its ledger supabase_migrations.schema_migrations names {len(earlier)} migration(s) without a file: "
            f"{', '.join(earlier)}. Nothing was changed.",
            _START_ANEW,
        )
    newer = tuple(f"{version}_{names[version]}" for version in ours)
    return newer, tuple(version for version in unknown if version not in ours)
