"""Connections to PostgreSQL: direct, or through a session or transaction pooler.

This module works behind a transaction pooler. There, no prepared statement outlives its transaction. Settings change
only with SET LOCAL, so no session state needs a reset. Every statement with parameters or a result runs in a
transaction: the pooler sends all messages of a transaction to one server connection.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import asyncpg

from nexus_stream.errors import ConfigurationError, DatabaseUnavailableError, NexusError
from nexus_stream.host.log import get_logger
from nexus_stream.settings import Settings
from nexus_stream.supabase.sqlstates import Failure, RefusedCallError, advice, classify, describe
from nexus_stream.supabase.target import Mode, Target, parse_target, require_secure

if TYPE_CHECKING:
    from asyncpg import Connection, Pool
    from asyncpg.pool import PoolConnectionProxy

    AnyConnection = Connection[Any] | PoolConnectionProxy[Any]

__all__ = [
    "APPLICATION_NAME",
    "close_pool",
    "connect_once",
    "find_mode",
    "is_direct",
    "open_pool",
    "statement_cache_size",
    "target_of",
    "to_nexus_error",
    "transaction",
]

_log = get_logger(__name__)

APPLICATION_NAME = "nexus-stream"
# The client's timeout is longer than the server's. It ends calls to a server that stopped answering.
_ANSWER_MARGIN_SECONDS = 5.0
_CLOSE_TIMEOUT_SECONDS = 5.0
_CACHED_STATEMENTS = 100


def target_of(settings: Settings) -> Target:
    """Return the configured database. Refuse an insecure connection in production.

    Raises:
        ConfigurationError: the DSN is missing, malformed or insecure.
    """
    if settings.database_url is None:
        raise ConfigurationError(
            "SUPABASE_DB_URL: not set. Use postgresql://USER:PASSWORD@HOST:PORT/postgres "
            "(Supabase: Project settings > Database > Connection string)."
        )
    target = parse_target(settings.database_url.get_secret_value(), settings.database_pooler_mode)
    require_secure(target, production=settings.env == "production")
    return target


async def open_pool(settings: Settings) -> tuple[Pool[Any], Target]:
    """Open a pool of one to ``database_pool_max`` connections.

    Raises:
        ConfigurationError: the DSN, the login or the database is wrong.
        DatabaseUnavailableError: the database does not answer, or has no free connection.
    """
    target = target_of(settings)
    connect_seconds = target.connect_timeout_seconds or settings.database_connect_timeout_seconds
    target = await find_mode(target, connect_seconds)
    answer_seconds = settings.database_statement_timeout_seconds + _ANSWER_MARGIN_SECONDS
    try:
        pool = await asyncpg.create_pool(
            target.dsn,
            host=list(target.hosts),
            port=list(target.ports),
            database=target.database,
            min_size=1,
            max_size=settings.database_pool_max,
            timeout=connect_seconds,
            command_timeout=answer_seconds,
            statement_cache_size=statement_cache_size(target),
            server_settings={"application_name": APPLICATION_NAME},
            # All settings end with their transaction, so a reset query is not needed.
            reset=_nothing_to_reset,
        )
    except Exception as error:
        raise to_nexus_error(error, target) from error
    if target.left_out:
        _log.info("database_url_parameters_left_out", names=",".join(target.left_out))
    _log.info("database_connected", target=str(target), mode=str(target.mode))
    return pool, target


async def find_mode(target: Target, timeout_seconds: float) -> Target:
    """Return the target with its mode. Query the server if address and settings do not decide the mode."""
    if target.mode is not None:
        return target
    async with connect_once(target, timeout_seconds) as connection:
        try:
            direct = await is_direct(connection)
        except Exception as error:
            raise to_nexus_error(error, target) from error
    return dataclasses.replace(target, mode=Mode.DIRECT if direct else Mode.POOLER)


async def is_direct(connection: Connection[Any]) -> bool:
    """Whether no pooler is in between. A pooler announces its own process id; the server behind it has another."""
    async with connection.transaction():
        server_pid: int = await connection.fetchval("SELECT pg_backend_pid()")
    return server_pid == connection.get_server_pid()


@asynccontextmanager
async def connect_once(target: Target, timeout_seconds: float) -> AsyncIterator[Connection[Any]]:
    """Open one connection outside any pool.

    Raises:
        ConfigurationError: the DSN, the login or the database is wrong.
        DatabaseUnavailableError: the database does not answer.
    """
    try:
        connection = await asyncpg.connect(
            target.dsn,
            host=list(target.hosts),
            port=list(target.ports),
            database=target.database,
            timeout=timeout_seconds,
            # The connection is short-lived: no statement runs twice.
            statement_cache_size=0,
            server_settings={"application_name": APPLICATION_NAME},
        )
    except Exception as error:
        raise to_nexus_error(error, target) from error
    try:
        yield connection
    finally:
        try:
            await connection.close(timeout=_CLOSE_TIMEOUT_SECONDS)
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
            connection.terminate()


async def close_pool(pool: Pool[Any]) -> None:
    """Close every connection. Cut the connections that do not close in time."""
    try:
        await asyncio.wait_for(pool.close(), _CLOSE_TIMEOUT_SECONDS)
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
        pool.terminate()


@asynccontextmanager
async def transaction(connection: AnyConnection, statement_timeout_seconds: float) -> AsyncIterator[None]:
    """Run a READ COMMITTED transaction. Its timeouts end with it."""
    async with connection.transaction(isolation="read_committed"):
        statement_ms = max(1, round(statement_timeout_seconds * 1000))
        # The lock timeout is shorter than the statement timeout. A smaller batch does not help against a lock.
        await connection.execute(
            "SELECT set_config('statement_timeout', $1, true), set_config('lock_timeout', $2, true),"
            " set_config('idle_in_transaction_session_timeout', $3, true)",
            f"{statement_ms}ms",
            f"{max(1, statement_ms // 2)}ms",
            f"{statement_ms + 10_000}ms",
        )
        yield


def to_nexus_error(error: BaseException, target: Target) -> NexusError:
    """Convert an error that no single row caused. The message says what to fix and contains no row data."""
    if isinstance(error, NexusError):
        return error
    sqlstate = getattr(error, "sqlstate", None)
    if isinstance(error, asyncpg.PostgresError):
        # The detail may quote a row. str(error) and every traceback contain the detail.
        error.detail = None
    failure = classify(error)
    code = f" [{sqlstate}]" if sqlstate else ""
    if failure is Failure.CONFIGURATION:
        return ConfigurationError(f"Database {target}: {_configuration_advice(error, sqlstate)}{code}")
    if failure is Failure.BAD_ROW:
        # The writer rejects bad rows one by one. Here it found no single bad row (example: a constraint checked at
        # commit).
        return ConfigurationError(f"Database {target} refuses a whole batch: {describe(error)}{code}")
    read_only = sqlstate == "25006"
    problem = "read-only: a standby, or a failover under way" if read_only else f"unavailable: {describe(error)}"
    unavailable = DatabaseUnavailableError(f"Database {target} is {problem}{code}")
    if sqlstate:
        unavailable.sqlstate_class = sqlstate[:2]
    return unavailable


def _configuration_advice(error: BaseException, sqlstate: str | None) -> str:
    if isinstance(error, RefusedCallError):
        return f"{error}, and no row caused the error."
    known = advice(error)
    if known is not None:
        return f"{known[0]}. {known[1]}"
    if isinstance(error, OSError):
        return "its certificate is not trusted. Check sslrootcert and the host name in SUPABASE_DB_URL."
    if sqlstate is None:
        # The driver raised this error before it sent anything. It concerns the DSN, TLS or files.
        return str(error)
    # Also describe syntax errors: the installation's own function or trigger may build a statement from row data.
    return describe(error)


def statement_cache_size(target: Target) -> int:
    """Return 0 if the next transaction may run on another server connection: prepared statements fail there."""
    return _CACHED_STATEMENTS if target.mode in {Mode.DIRECT, Mode.SESSION_POOLER} else 0


async def _nothing_to_reset(connection: object) -> None:
    """Replaces the reset query that a pool sends on every release."""
