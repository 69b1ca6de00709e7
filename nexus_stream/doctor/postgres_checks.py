"""The area ``postgresql``: connect to the database as the sink does, and check that it has what the sink needs.

Also measures the facts for capacity_checks.py. The checks read catalogs and change nothing.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Awaitable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from nexus_stream.doctor import postgres_access, postgres_judging, postgres_schema
from nexus_stream.doctor.facts import MeasuredFacts
from nexus_stream.doctor.finding import Finding, error, note, ok
from nexus_stream.doctor.network import connect, trouble_of
from nexus_stream.doctor.running import CHECK_SECONDS, REACH_SECONDS, guarded
from nexus_stream.errors import ConfigurationError, NexusError
from nexus_stream.settings import Settings
from nexus_stream.supabase.pool import connect_once, is_direct, target_of
from nexus_stream.supabase.sqlstates import advice
from nexus_stream.supabase.target import Mode, Target, parse_target

if TYPE_CHECKING:
    from asyncpg import Connection

__all__ = ["check_postgres", "diagnose"]

_CHECK: Final = "postgresql.reachable"
_WHY: Final = "The sink writes nothing. Enriched prospects wait on their topic, at most until its retention ends."


async def check_postgres(settings: Settings, facts: MeasuredFacts) -> list[Finding]:
    """Connect, then run the checks. Each one has a time limit."""
    if settings.database_url is None:
        why = "Prospects are only published to prospects-enriched. No sink can start."
        fix = "SUPABASE_DB_URL=postgresql://USER:PASSWORD@HOST:PORT/postgres"
        return [note("postgresql.configured", "no database is configured", why, fix)]
    findings: list[Finding] = []
    try:
        target = target_of(settings)
    except ConfigurationError as failure:
        findings.append(error("postgresql.tls", str(failure), _WHY, "Set SUPABASE_DB_URL as the message says."))
        try:
            target = parse_target(settings.database_url.get_secret_value(), settings.database_pooler_mode)
        except ConfigurationError:
            return findings
    else:
        findings += postgres_judging.judge_tls(target)
    # Try plain TCP first: it explains an unreachable address better than the driver does.
    places = list(zip(target.hosts, target.ports, strict=True))
    if not any(host.startswith("/") for host, _ in places):
        troubles = await asyncio.gather(*(connect(host, port) for host, port in places))
        if all(troubles):
            fix = "SUPABASE_DB_URL: {}."
            return findings + [error(_CHECK, each.found, _WHY, fix.format(each.fix)) for each in troubles if each]
    try:
        async with asyncio.timeout(REACH_SECONDS + 1), connect_once(target, REACH_SECONDS) as connection:
            await connection.fetchval("SELECT 1")
    except (NexusError, TimeoutError) as failure:
        return [*findings, diagnose(failure, target)]
    findings.append(ok(_CHECK, f"{target}: the server answers and accepts the login"))
    results = await asyncio.gather(
        guarded("postgresql.pooler", _pooler(settings, target)),
        guarded("postgresql.server", _over_one_connection(settings, target, facts), 2 * CHECK_SECONDS - 2),
        guarded("postgresql.migrations", postgres_schema.check_migrations(settings, target)),
    )
    return findings + [finding for found in results for finding in found]


def diagnose(failure: BaseException, target: Target) -> Finding:
    """Explain why the driver could not connect, and name the variable to change."""
    cause = failure.__cause__ or failure
    known = advice(cause)
    if known is not None:
        found, fix = known
        sqlstate = getattr(cause, "sqlstate", None)
        return error(_CHECK, f"{target}: {found}{f' [{sqlstate}]' if sqlstate else ''}", _WHY, fix)
    if isinstance(cause, OSError | TimeoutError):
        trouble = trouble_of(cause, str(target))
        variable = "SUPABASE_DB_URL, sslrootcert" if trouble.kind == "certificate" else "SUPABASE_DB_URL"
        return error(_CHECK, trouble.found, _WHY, f"{variable}: {trouble.fix}.")
    # Our own error message names the setting and quotes no data.
    fix = "Set SUPABASE_DB_URL as the message says."
    return error(_CHECK, str(failure) or f"{target}: no answer in time", _WHY, fix)


async def _over_one_connection(settings: Settings, target: Target, facts: MeasuredFacts) -> list[Finding]:
    findings: list[Finding] = []
    async with connect_once(target, REACH_SECONDS) as connection:
        checks: list[tuple[str, Any]] = [
            ("postgresql.server", lambda: _server(settings, target, connection, facts)),
            ("postgresql.clock", lambda: _clock(connection)),
            ("postgresql.grants", lambda: postgres_access.check_access(settings, connection)),
        ]
        if settings.sink_mode == "function":
            checks.append(("postgresql.function", lambda: postgres_schema.check_function(settings, connection)))
        for check, look in checks:
            findings += await guarded(check, _in_transaction(connection, look), 3.0)
    return findings


async def _in_transaction(connection: Connection[Any], look: Any) -> Sequence[Finding]:
    # Behind a transaction pooler, only a transaction keeps a query and its answer on one server connection.
    async with connection.transaction(readonly=True):
        result: Awaitable[Sequence[Finding]] = look()
        return await result


async def _server(
    settings: Settings, target: Target, connection: Connection[Any], facts: MeasuredFacts
) -> list[Finding]:
    row = await connection.fetchrow(postgres_judging.SERVER)
    assert row is not None  # noqa: S101 - one row, always
    server = postgres_judging.ServerFound(**dict(row))
    facts.connections_free, facts.connections_of = server.connections_free, "max_connections"
    if target.mode is Mode.SESSION_POOLER:
        facts.connections_free = min(server.connections_free, postgres_judging.SESSION_POOLER_CONNECTIONS)
        facts.connections_of = "the session pooler"
    elif target.mode is Mode.TRANSACTION_POOLER:
        facts.connections_free, facts.connections_of = None, "the transaction pooler"
    return postgres_judging.judge_server(settings, server)


def _target_mode(settings: Settings) -> Mode | None:
    """Return the connection mode according to the address or the setting."""
    assert settings.database_url is not None  # noqa: S101 - asked before
    return parse_target(settings.database_url.get_secret_value(), settings.database_pooler_mode).mode


async def _clock(connection: Connection[Any]) -> list[Finding]:
    before = datetime.now(UTC)
    theirs = await connection.fetchval("SELECT clock_timestamp()")
    after = datetime.now(UTC)
    middle = before + (after - before) / 2
    return [
        postgres_judging.judge_clock(
            "postgresql.clock", "PostgreSQL", (middle - theirs).total_seconds(), (after - before).total_seconds()
        )
    ]


async def _pooler(settings: Settings, target: Target) -> list[Finding]:
    """Detect a pooler with two connections, and compare the result with the settings.

    If one server process answers two clients that are both connected, this is transaction pooling. No other mode does
    that.
    """
    any_mode = dataclasses.replace(target, mode=None)
    pids: list[int] = []
    async with connect_once(any_mode, REACH_SECONDS) as first, connect_once(any_mode, REACH_SECONDS) as second:
        direct = await is_direct(first)
        for connection in (first, second, first, second):
            async with connection.transaction():
                pids.append(await connection.fetchval("SELECT pg_backend_pid()"))
    shares = bool({pids[0], pids[2]} & {pids[1], pids[3]})
    return [postgres_judging.judge_pooler(target, settings, is_direct=direct, shares=shares)]
