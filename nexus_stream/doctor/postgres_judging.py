"""Judge PostgreSQL's version, login, limits, clock and pooler for the sink. Pure functions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, LiteralString

from nexus_stream.doctor.finding import Finding, error, note, ok, warning
from nexus_stream.settings import Settings
from nexus_stream.supabase.target import Mode, Target

__all__ = [
    "SERVER",
    "SESSION_POOLER_CONNECTIONS",
    "ServerFound",
    "judge_clock",
    "judge_pooler",
    "judge_server",
    "judge_tls",
]

# Total connections of Supabase's session pooler on small plans. The dashboard shows a project's own limit.
SESSION_POOLER_CONNECTIONS: Final = 15
_VERSIONS: Final = range(15, 19)
_CLOCK_WARNING_SECONDS: Final = 2.0
_CLOCK_ERROR_SECONDS: Final = 60.0

SERVER: LiteralString = """
SELECT current_setting('server_version_num')::integer AS version,
    pg_is_in_recovery() AS is_standby,
    current_setting('default_transaction_read_only')::boolean AS is_read_only,
    r.rolsuper AS is_superuser, r.rolbypassrls AS bypasses_rls, r.rolconnlimit AS login_limit,
    CASE WHEN to_regrole('nexus_sink') IS NULL THEN NULL
        ELSE pg_has_role(current_user, 'nexus_sink', 'usage') END AS is_sink,
    current_setting('max_connections')::integer AS max_connections,
    current_setting('superuser_reserved_connections')::integer AS reserved_connections,
    (SELECT count(*)::integer FROM pg_catalog.pg_stat_activity a WHERE a.backend_type = 'client backend'
        AND a.application_name IS DISTINCT FROM 'nexus-stream') AS other_connections,
    (SELECT s.setting::bigint FROM pg_catalog.pg_settings s WHERE s.name = 'statement_timeout') AS statement_timeout_ms,
    (SELECT s.setting::bigint FROM pg_catalog.pg_settings s WHERE s.name = 'transaction_timeout')
        AS transaction_timeout_ms
FROM pg_catalog.pg_roles r WHERE r.rolname = current_user
"""


@dataclass(frozen=True, slots=True)
class ServerFound:
    """The row of `SERVER`.

    Attributes:
        is_sink: Whether the login has the rights of ``nexus_sink``. None: the role does not exist.
        login_limit: The login's connection limit; -1: no limit.
        other_connections: Open connections of other programs.
    """

    version: int
    is_standby: bool
    is_read_only: bool
    is_superuser: bool
    bypasses_rls: bool
    login_limit: int
    is_sink: bool | None
    max_connections: int
    reserved_connections: int
    other_connections: int
    statement_timeout_ms: int | None
    transaction_timeout_ms: int | None

    @property
    def connections_free(self) -> int:
        """The connections that are free for sinks and console."""
        free = self.max_connections - self.reserved_connections - self.other_connections
        return free if self.login_limit < 0 else min(free, self.login_limit)


def judge_server(settings: Settings, server: ServerFound) -> list[Finding]:
    """Judge the version, whether the server accepts writes, the login's rights, and timeouts."""
    major = server.version // 10_000
    findings = []
    if major < _VERSIONS.start:
        why = "The migrations use features of newer servers."
        findings.append(
            error("postgresql.version", f"PostgreSQL {major}", why, "Upgrade to PostgreSQL 15, 16, 17 or 18.")
        )
    elif major not in _VERSIONS:
        findings.append(
            note("postgresql.version", f"PostgreSQL {major}", "This nexus-stream version was not tested with it.")
        )
    else:
        findings.append(ok("postgresql.version", f"PostgreSQL {major}"))
    if server.is_standby or server.is_read_only:
        what = "a standby" if server.is_standby else "read-only (default_transaction_read_only)"
        fix = (
            "SUPABASE_DB_URL: the primary's address"
            if server.is_standby
            else "alter role <login> reset default_transaction_read_only"
        )
        findings.append(
            error("postgresql.read_only", f"the server is {what}", "The sink waits until it can write.", fix)
        )
    findings += _login(settings, server)
    limit_ms = server.transaction_timeout_ms or 0
    ours_ms = settings.database_statement_timeout_seconds * 1000
    if 0 < limit_ms < ours_ms:
        found = (
            f"transaction_timeout is {limit_ms / 1000:g} s, NEXUS_DATABASE_STATEMENT_TIMEOUT_SECONDS={ours_ms / 1000:g}"
        )
        why = "The server cancels large batches, and the sink halves them again and again."
        fix = f"alter role <login> set transaction_timeout = '{2 * ours_ms / 1000:g}s'"
        findings.append(warning("postgresql.timeout", found, why, fix))
    elif server.statement_timeout_ms:
        found = f"the login's statement_timeout is {server.statement_timeout_ms / 1000:g} s; the sink sets its own"
        findings.append(ok("postgresql.timeout", found))
    return findings


def _login(settings: Settings, server: ServerFound) -> list[Finding]:
    make_role = "create role my_sink login password '…' in role nexus_sink; then SUPABASE_DB_URL with that user"
    if server.is_superuser or server.bypasses_rls:
        what = "is a superuser" if server.is_superuser else "bypasses row level security"
        why = "A stolen sink password gives full access to the database."
        make = warning if settings.env == "production" else note
        return [make("postgresql.login", f"the login {what}", why, make_role)]
    if server.is_sink is False:
        why = "Unless it owns the tables, it lacks the rights that the migrations grant to nexus_sink."
        found = "the login is not a member of nexus_sink"
        return [warning("postgresql.login", found, why, "grant nexus_sink to <login>")]
    return [ok("postgresql.login", "the login is not a superuser")]


def judge_tls(target: Target) -> list[Finding]:
    """Judge whether a third party on the network could read or answer the connection."""
    if target.is_loopback:
        return []
    if target.is_secure:
        return [ok("postgresql.tls", "the server's certificate and name are verified")]
    why = "A third party on the network can read prospects and the password. NEXUS_ENV=production refuses it."
    fix = "SUPABASE_DB_URL: add ?sslmode=verify-full&sslrootcert=/path/to/ca.crt"
    return [warning("postgresql.tls", f"sslmode is {target.sslmode or 'not set'}", why, fix)]


def judge_clock(check: str, whose: str, ahead_seconds: float, uncertain_seconds: float) -> Finding:
    """Compare this machine's clock with another one.

    Args:
        check: The finding's id.
        whose: The owner of the other clock.
        ahead_seconds: How far this machine's clock is ahead.
        uncertain_seconds: The possible error of the measurement.
    """
    off_seconds = abs(ahead_seconds)
    if off_seconds <= _CLOCK_WARNING_SECONDS + uncertain_seconds:
        return ok(check, f"this machine's clock agrees with {whose} ({ahead_seconds:+.1f} s)")
    found = f"this machine's clock is {off_seconds:.0f} s {'ahead of' if ahead_seconds > 0 else 'behind'} {whose}'s"
    why = "Ages, latencies and alerts are wrong by this difference. Snapshots of a session may be ordered wrongly."
    fix = "Find out which of the two clocks is wrong; there: timedatectl set-ntp true (or the machine's time service)"
    make = error if off_seconds > _CLOCK_ERROR_SECONDS else warning
    return make(check, found, why, fix)


def judge_pooler(target: Target, settings: Settings, *, is_direct: bool, shares: bool) -> Finding:
    """Compare the detected pooler with the settings and the address.

    Args:
        target: The database. Its ``mode`` is the mode in use. None: the sink detects a pooler, and then uses no
            prepared statements.
        settings: The settings with ``database_pooler_mode``.
        is_direct: Whether the server itself answered.
        shares: Whether two clients shared a server connection.
    """
    check = "postgresql.pooler"
    setting = f"NEXUS_DATABASE_POOLER_MODE={settings.database_pooler_mode}"
    if is_direct:
        if target.mode in {Mode.SESSION_POOLER, Mode.TRANSACTION_POOLER} and settings.database_pooler_mode != "auto":
            why = "The sink works, but reuses fewer prepared statements than it could."
            found = f"the server has no pooler in front of it, but {setting}"
            return note(check, found, why, "NEXUS_DATABASE_POOLER_MODE=auto")
        return ok(check, "connected to the server itself, without a pooler")
    if shares:
        if target.mode in {Mode.DIRECT, Mode.SESSION_POOLER}:
            why = "Prepared statements outlive their transaction and fail on another server connection (26000, 42P05)."
            fix = "NEXUS_DATABASE_POOLER_MODE=transaction"
            return error(check, f"the server is behind a transaction pooler, but {setting}", why, fix)
        return ok(check, "the server is behind a transaction pooler, and the sink uses it as one")
    if target.mode is Mode.DIRECT:
        why = "This works with session pooling. With transaction pooling, prepared statements fail."
        found = f"the server is behind a pooler, but {setting}"
        return note(check, found, why, "NEXUS_DATABASE_POOLER_MODE=session")
    return ok(check, "the server is behind a pooler; two test clients saw session pooling")
