"""Every error that asyncpg can raise has an action, and no description contains a row's data."""

from __future__ import annotations

import inspect
import ssl
from collections.abc import Iterator

import asyncpg
import pytest
from asyncpg import exceptions

from nexus_stream.supabase.sqlstates import Failure, classify, describe, failure_of, needs_new_connection


def _server_errors() -> Iterator[type[asyncpg.PostgresError]]:
    for _, error_class in inspect.getmembers(exceptions, inspect.isclass):
        if issubclass(error_class, asyncpg.PostgresError) and getattr(error_class, "sqlstate", None):
            yield error_class


def _client_errors() -> Iterator[type[Exception]]:
    for _, error_class in inspect.getmembers(exceptions, inspect.isclass):
        if issubclass(error_class, Exception) and not issubclass(error_class, (asyncpg.PostgresError, Warning)):
            yield error_class


def test_every_server_error_of_asyncpg_is_mapped() -> None:
    errors = list(_server_errors())
    assert len(errors) > 200
    unmapped = [error_class.__name__ for error_class in errors if failure_of(error_class.sqlstate or "") is None]
    assert unmapped == []


def test_every_client_error_of_asyncpg_is_mapped() -> None:
    errors = list(_client_errors())
    assert len(errors) >= 8
    assert [error_class.__name__ for error_class in errors if classify(error_class("boom")) is None] == []


@pytest.mark.parametrize(
    ("sqlstates", "failure"),
    [
        (
            "08000 08006 08P01 40001 40P01 53000 53300 55P03 57P01 57P02 57P03 57P05 58030 25006 XX000 25P03",
            Failure.TRANSIENT,
        ),
        ("22001 22003 22007 22021 22P02 22P05 23502 23503 23505 23514 23P01 54000 54001 P0001", Failure.BAD_ROW),
        ("57014 25P04", Failure.SMALLER_BATCH),
        (
            "28000 28P01 3D000 3F000 42P01 42703 42501 42P10 42P13 42883 26000 42P05 21000 0A000 25P02 XX001",
            Failure.CONFIGURATION,
        ),
    ],
)
def test_each_code_has_its_action(sqlstates: str, failure: Failure) -> None:
    for sqlstate in sqlstates.split():
        assert failure_of(sqlstate) is failure, sqlstate


@pytest.mark.parametrize(
    ("error", "failure"),
    [
        (ConnectionRefusedError(), Failure.TRANSIENT),
        (TimeoutError(), Failure.TRANSIENT),
        (OSError(101, "Network is unreachable"), Failure.TRANSIENT),
        (ssl.SSLError("record layer failure"), Failure.TRANSIENT),
        (ssl.SSLCertVerificationError("unable to get local issuer certificate"), Failure.CONFIGURATION),
        (ConnectionError('PostgreSQL server at "db:5432" rejected SSL upgrade'), Failure.CONFIGURATION),
        (asyncpg.InvalidCachedStatementError("cached statement plan is invalid"), Failure.TRANSIENT),
        (asyncpg.InternalServerError("Tenant or user not found"), Failure.CONFIGURATION),
        (asyncpg.InternalServerError("MaxClientsInSessionMode: max clients reached"), Failure.TRANSIENT),
        (exceptions.DataError("invalid input for query argument $1"), Failure.BAD_ROW),
        (ValueError("ours"), None),
        (KeyError("ours"), None),
    ],
)
def test_each_exception_has_its_action(error: Exception, failure: Failure | None) -> None:
    assert classify(error) is failure


def test_an_unknown_code_is_retried() -> None:
    error = exceptions.UnknownPostgresError("?")
    error.sqlstate = "ZZ999"
    assert failure_of("ZZ999") is None
    assert classify(error) is Failure.TRANSIENT


def test_a_retry_uses_a_new_connection() -> None:
    assert needs_new_connection(asyncpg.ReadOnlySQLTransactionError("cannot execute INSERT"))
    assert needs_new_connection(asyncpg.AdminShutdownError("terminating connection"))
    assert needs_new_connection(ConnectionResetError())
    assert needs_new_connection(asyncpg.InvalidCachedStatementError("cached statement plan is invalid"))
    assert needs_new_connection(asyncpg.DeadlockDetectedError("deadlock detected"))
    assert not needs_new_connection(asyncpg.QueryCanceledError("statement timeout"))
    assert not needs_new_connection(asyncpg.CheckViolationError("no"))
    assert not needs_new_connection(asyncpg.UndefinedTableError("no"))


def test_a_description_names_the_constraint_and_quotes_nothing() -> None:
    error = asyncpg.CheckViolationError('new row for relation "prospect_sessions" violates check constraint')
    error.detail = "Failing row contains (ana@example.com)."
    error.constraint_name = "prospect_sessions_fingerprint"
    error.table_name = "prospect_sessions"
    text = describe(error)
    assert text == "CheckViolationError (constraint prospect_sessions_fingerprint, table prospect_sessions)"
    assert describe(asyncpg.InvalidTextRepresentationError('invalid input syntax for type bigint: "ana"')) == (
        "InvalidTextRepresentationError"
    )
