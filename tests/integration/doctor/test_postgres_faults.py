"""Real faults of the database, each with its finding and its fix."""

from __future__ import annotations

import asyncio
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest

from nexus_stream.doctor.postgres_access import EXPECTED_TABLES, SINK_FUNCTIONS
from nexus_stream.host.free_ports import LOOPBACK, free_port
from nexus_stream.supabase.migrate import apply_migrations
from tests.support.certificates import CertificateAuthority
from tests.support.pgbouncer import PgBouncer, missing_pgbouncer
from tests.support.postgres import server_folder
from tests.support.requirements import require

if TYPE_CHECKING:
    from nexus_stream.embedded.postgres import EmbeddedPostgres
    from tests.integration.doctor.conftest import Database, Doctor

ROOT = Path(__file__).parents[3]
_WAIT_SECONDS = 60


def test_the_tables_of_rights_are_what_the_migrations_give(database: Database) -> None:
    async def ask() -> tuple[dict[str, set[str]], set[str]]:
        connection = await asyncpg.connect(database.dsn())
        try:
            tables = await connection.fetch(
                "SELECT table_name, privilege_type FROM information_schema.role_table_grants"
                " WHERE grantee = 'nexus_sink'"
            )
            functions = await connection.fetch(
                "SELECT p.oid::regprocedure::text FROM pg_proc p, aclexplode(p.proacl) a"
                " WHERE a.grantee = 'nexus_sink'::regrole AND p.pronamespace = 'public'::regnamespace"
            )
        finally:
            await connection.close()
        granted: dict[str, set[str]] = {}
        for name, privilege in tables:
            granted.setdefault(name, set()).add(privilege)
        return granted, {signature for (signature,) in functions}

    granted, executable = asyncio.run(ask())

    assert granted == {name: set(rights) for name, rights in EXPECTED_TABLES.items() if rights}
    assert executable >= SINK_FUNCTIONS


def test_a_port_where_nothing_listens(doctor: Doctor, finding: Any) -> None:
    report = doctor.examine("sink", SUPABASE_DB_URL=f"postgresql://sink@{LOOPBACK}:{free_port()}/postgres")

    found = finding(report, "postgresql.reachable")
    assert (found.severity, "connection refused" in found.found) == ("error", True)
    assert found.fix.startswith("SUPABASE_DB_URL")
    assert finding(report, "kafka.topics").severity == "ok"
    assert report.exit_code(strict=False) == 1


def test_a_wrong_password(doctor: Doctor, database: Database, postgres: EmbeddedPostgres, finding: Any) -> None:
    rules = postgres.data_dir / "pg_hba.conf"
    rules.write_text(f"host all doctor_asked {LOOPBACK}/32 scram-sha-256\n{rules.read_text()}")
    database.execute("CREATE ROLE doctor_asked LOGIN PASSWORD 'the-right-one'", "SELECT pg_reload_conf()")
    wrong = database.dsn("doctor_asked", "the-wrong-one")
    deadline = time.monotonic() + _WAIT_SECONDS
    # The server reloads its rules with a short delay.
    while doctor.examine("sink", SUPABASE_DB_URL=wrong).exit_code(strict=False) == 0:
        assert time.monotonic() < deadline
        time.sleep(0.1)

    found = finding(doctor.examine("sink", SUPABASE_DB_URL=wrong), "postgresql.reachable")

    assert "refuses the login [28P01]" in found.found
    assert "percent-encoded" in found.fix
    database.execute("DROP ROLE doctor_asked")


def test_a_database_that_is_not_there(doctor: Doctor, postgres: EmbeddedPostgres, finding: Any) -> None:
    report = doctor.examine("sink", SUPABASE_DB_URL=f"postgresql://postgres@{LOOPBACK}:{postgres.port}/absent")

    assert "there is no such database [3D000]" in finding(report, "postgresql.reachable").found


def test_no_migration_is_applied(without_database: Doctor, empty_database: Database, finding: Any) -> None:
    report = without_database.examine("sink", SUPABASE_DB_URL=empty_database.dsn())

    found = finding(report, "postgresql.migrations")
    assert (found.severity, found.fix) == ("error", "nexus migrate")
    assert "table prospect_tracking" in found.found


@pytest.mark.parametrize("user", ["postgres", "doctor_sink"])
def test_the_last_migration_is_missing(
    without_database: Doctor, empty_database: Database, finding: Any, tmp_path: Path, user: str
) -> None:
    files = sorted((ROOT / "supabase" / "migrations").glob("*.sql"))
    # The last file only replaces a function. Without the ledger nothing shows whether it is applied.
    applied = files[:-1] if user == "postgres" else files[:-2]
    for file in applied:
        shutil.copy(file, tmp_path)
    asyncio.run(apply_migrations(empty_database.dsn(), tmp_path))
    # With the owner's login from the ledger, with the sink's from what is there. The roles are the server's: another
    # database may have made them.
    empty_database.execute(
        "DO $$ BEGIN IF to_regrole('nexus_sink') IS NULL THEN CREATE ROLE nexus_sink; END IF; END $$",
        "DO $$ BEGIN IF to_regrole('doctor_sink') IS NULL THEN CREATE ROLE doctor_sink LOGIN; END IF; END $$",
        "GRANT nexus_sink TO doctor_sink",
    )

    report = without_database.examine("sink", SUPABASE_DB_URL=empty_database.dsn(user))

    found = finding(report, "postgresql.migrations")
    assert found.severity == "error"
    assert f"1 migration(s) are not applied ({files[len(applied)].stem})" in found.found
    assert found.fix == "nexus migrate"


_LEDGER_ROW = "INSERT INTO supabase_migrations.schema_migrations (version, name) VALUES"


def test_an_earlier_checkout_made_the_database(
    without_database: Doctor, empty_database: Database, finding: Any, tmp_path: Path
) -> None:
    (tmp_path / "20261124000100_prospect_tables.sql").write_text("create table public.prospect_sessions ()")
    asyncio.run(apply_migrations(empty_database.dsn(), tmp_path))

    found = finding(without_database.examine("sink", SUPABASE_DB_URL=empty_database.dsn()), "postgresql.migrations")

    assert found.severity == "error"
    assert "made by an earlier checkout" in found.found
    assert "20261124000100_prospect_tables" in found.found
    assert "nexus dev reset" in found.fix
    assert "supabase/remove.sql" in found.fix


def test_a_newer_version_made_the_database(doctor: Doctor, database: Database, finding: Any) -> None:
    database.execute(f"{_LEDGER_ROW} ('29991231000000', 'nexus_stream_more')")

    # The sink's login may not read the ledger.
    assert finding(doctor.examine("sink"), "postgresql.migrations").severity == "ok"
    report = doctor.examine("sink", SUPABASE_DB_URL=database.dsn())
    found = finding(report, "postgresql.migrations")
    assert found.severity == "note"
    assert "29991231000000_nexus_stream_more" in found.found
    assert report.exit_code(strict=False) == 0


@pytest.mark.parametrize("user", ["postgres", "doctor_sink"])
def test_one_policy_that_was_dropped_is_no_missing_migration(
    doctor: Doctor, database: Database, finding: Any, user: str
) -> None:
    database.execute("DROP POLICY nexus_sink_all ON prospect_sessions")

    report = doctor.examine("sink", SUPABASE_DB_URL=database.dsn(user))

    assert finding(report, "postgresql.migrations").severity == "ok"
    assert finding(report, "postgresql.rls").severity == "error"


@pytest.mark.parametrize(
    ("statement", "check", "severity", "fix"),
    [
        (
            "REVOKE INSERT ON prospect_sessions FROM nexus_sink",
            "postgresql.grants",
            "error",
            "grant insert on public.prospect_sessions to nexus_sink",
        ),
        (
            "GRANT DELETE ON privacy_audit TO nexus_sink",
            "postgresql.grants",
            "warning",
            "revoke delete on public.privacy_audit from nexus_sink",
        ),
        (
            "REVOKE EXECUTE ON FUNCTION nexus_refresh_people(text[], text[]) FROM nexus_sink",
            "postgresql.grants",
            "error",
            "grant execute on function public.nexus_refresh_people(text[],text[]) to nexus_sink",
        ),
        (
            "ALTER TABLE prospect_tracking DISABLE ROW LEVEL SECURITY",
            "postgresql.rls",
            "error",
            "alter table public.prospect_tracking enable row level security",
        ),
        (
            "DROP POLICY nexus_sink_all ON prospect_sessions",
            "postgresql.rls",
            "error",
            "create policy nexus_sink_all on public.prospect_sessions for all to nexus_sink"
            " using (true) with check (true)",
        ),
        (
            "GRANT SELECT ON prospect_tracking TO anon",
            "postgresql.browser_roles",
            "error",
            "revoke all on public.prospect_tracking from public, anon",
        ),
        (
            "GRANT EXECUTE ON FUNCTION nexus_fold(text, text) TO authenticated",
            "postgresql.browser_roles",
            "error",
            "revoke execute on function public.nexus_fold(text,text) from public, authenticated",
        ),
    ],
)
def test_rights_that_differ_from_the_migrations(
    doctor: Doctor, database: Database, finding: Any, statement: str, check: str, severity: str, fix: str
) -> None:
    database.execute(statement)

    found = finding(doctor.examine("sink"), check)
    assert (found.severity, found.fix) == (severity, fix)

    # The fix is the statement to run: it solves the problem.
    database.execute(found.fix)
    after = doctor.examine("sink")
    grants = finding(after, "postgresql.grants")
    assert grants.severity == "ok", grants
    assert after.exit_code(strict=True) == 0


def test_a_superuser_is_a_warning_in_production(doctor: Doctor, database: Database, finding: Any) -> None:
    superuser = {"SUPABASE_DB_URL": database.dsn()}

    assert finding(doctor.examine("sink", **superuser), "postgresql.login").severity == "note"
    in_production = finding(doctor.examine("sink", **superuser, NEXUS_ENV="production"), "postgresql.login")
    assert in_production.severity == "warning"
    assert "in role nexus_sink" in in_production.fix


def test_a_login_that_is_not_a_member(doctor: Doctor, database: Database, finding: Any) -> None:
    database.execute("CREATE ROLE doctor_stranger LOGIN")

    report = doctor.examine("sink", SUPABASE_DB_URL=database.dsn("doctor_stranger"))

    assert finding(report, "postgresql.login").fix == "grant nexus_sink to <login>"
    # The check may need a right that the login lacks. This is reported, and the other findings are valid.
    assert finding(report, "postgresql.version").severity == "ok"
    database.execute("DROP ROLE doctor_stranger")


def test_more_sinks_than_connections(doctor: Doctor, finding: Any) -> None:
    found = finding(doctor.examine("sink", sinks=60), "postgresql.pool")

    assert found.severity in {"warning", "error"}
    assert "60 sink(s) x NEXUS_DATABASE_POOL_MAX=4" in found.found
    assert "NEXUS_DATABASE_POOL_MAX=1" in found.fix


def test_the_function_mode_without_the_function(doctor: Doctor, database: Database, finding: Any) -> None:
    found = finding(doctor.examine("sink", NEXUS_SINK_MODE="function"), "postgresql.function")
    assert found.severity == "error"
    assert "nexus-stream's own" in found.found

    database.execute(
        "DROP FUNCTION update_prospect_data(text, jsonb)",
        "CREATE FUNCTION update_prospect_data(text, integer) RETURNS jsonb LANGUAGE sql AS $$ SELECT '{}'::jsonb $$",
    )
    found = finding(doctor.examine("sink", NEXUS_SINK_MODE="function"), "postgresql.function")
    assert "there is no public.update_prospect_data(text, jsonb)" in found.found

    database.execute(
        "CREATE FUNCTION update_prospect_data(text, jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT '{}'::jsonb $$"
    )
    found = finding(doctor.examine("sink", NEXUS_SINK_MODE="function"), "postgresql.function")
    assert found.severity == "ok"


def test_a_transaction_pooler_with_another_setting(doctor: Doctor, database: Database, finding: Any) -> None:
    require("pgbouncer", missing_pgbouncer())
    with server_folder() as folder:
        for mode in ("transaction", "session"):
            users = ("postgres", "doctor_sink")
            with PgBouncer(folder / mode, database.postgres.port, mode, users=users) as pooler:
                behind = {"SUPABASE_DB_URL": database.dsn("doctor_sink", port=pooler.port)}
                report = doctor.examine("sink", **behind, NEXUS_DATABASE_POOLER_MODE="session")
                found = finding(report, "postgresql.pooler")
                if mode == "session":
                    assert found.severity == "ok"
                    continue
                assert (found.severity, found.fix) == ("error", "NEXUS_DATABASE_POOLER_MODE=transaction")
                assert report.exit_code(strict=False) == 1

                report = doctor.examine("sink", **behind, NEXUS_DATABASE_POOLER_MODE="transaction")
                assert finding(report, "postgresql.pooler").severity == "ok"
                # All other queries also work behind the pooler.
                assert report.exit_code(strict=True) == 0


def test_a_certificate_of_another_authority(doctor: Doctor, database: Database, finding: Any, tmp_path: Path) -> None:
    require("pgbouncer", missing_pgbouncer())
    ours = CertificateAuthority.make(tmp_path / "ours", "ours")
    other = CertificateAuthority.make(tmp_path / "other", "other")
    with server_folder() as folder:
        place = folder / "tls"
        place.mkdir()
        files = [shutil.copy(file, place) for file in ours.issue("localhost")]
        options = dict(zip(("client_tls_cert_file", "client_tls_key_file"), map(str, files), strict=True))
        pooler = PgBouncer(
            place,
            database.postgres.port,
            "session",
            users=("doctor_sink",),
            settings={"client_tls_sslmode": "require", **options},
        )
        with pooler:
            address = (
                f"postgresql://doctor_sink@localhost:{pooler.port}/{database.name}?sslmode=verify-full&sslrootcert="
            )
            wrong = doctor.examine("sink", SUPABASE_DB_URL=f"{address}{other.certificate}")
            right = doctor.examine("sink", SUPABASE_DB_URL=f"{address}{ours.certificate}")

    found = finding(wrong, "postgresql.reachable")
    assert "not trusted here" in found.found
    assert "sslrootcert" in found.fix
    assert finding(right, "postgresql.reachable").severity == "ok"


def test_a_server_without_tls_when_tls_is_required(doctor: Doctor, database: Database, finding: Any) -> None:
    report = doctor.examine("sink", SUPABASE_DB_URL=f"{database.dsn()}?sslmode=require")

    assert "does not support TLS" in finding(report, "postgresql.reachable").found
