"""Classify database errors: the writer then retries, bisects, halves the batch or stops.

The codes are PostgreSQL's (Appendix A, "PostgreSQL Error Codes"). A test walks asyncpg's exception classes and fails if
this table misses one.
"""

from __future__ import annotations

import re
import ssl
from enum import StrEnum

import asyncpg
from asyncpg import exceptions

__all__ = [
    "Failure",
    "RefusedCallError",
    "advice",
    "classify",
    "describe",
    "failure_of",
    "needs_new_connection",
    "original",
]


class Failure(StrEnum):
    """The action after an error."""

    TRANSIENT = "transient"  # the same batch will succeed later: wait, then retry
    BAD_ROW = "bad_row"  # one row causes the error: find it, write the others
    SMALLER_BATCH = "smaller_batch"  # the batch is too large
    CONFIGURATION = "configuration"  # the operator must fix the database or the settings: stop


class RefusedCallError(Exception):
    """A call of the installation's own function failed without an SQL error.

    Attributes:
        failure: The action to take.
        sqlstate: The code in the function's answer, or the code of RAISE.
    """

    def __init__(self, failure: Failure, sqlstate: str, message: str) -> None:
        super().__init__(message)
        self.failure = failure
        self.sqlstate = sqlstate


_T, _B, _S, _C = Failure.TRANSIENT, Failure.BAD_ROW, Failure.SMALLER_BATCH, Failure.CONFIGURATION

_BY_CODE = {
    "0A000": _C,
    "25006": _T,  # read-only: a standby, or a failover under way
    "25P03": _T,  # idle_in_transaction_session_timeout
    "25P04": _S,  # transaction_timeout
    "55006": _T,
    "55P03": _T,  # lock_timeout
    "57014": _S,  # statement_timeout, or cancelled
    "HV00N": _T,
    "P0001": _B,  # RAISE in the installation's own trigger, about this row
    "XX001": _C,  # data_corrupted
    "XX002": _C,  # index_corrupted
}

# The first two characters of a code.
_BY_CLASS = {
    "08": _T,  # connection
    "22": _B,  # data
    "23": _B,  # integrity constraint
    "40": _T,  # serialization failure, deadlock
    "53": _T,  # out of connections, memory, disk
    "54": _B,  # a value exceeds a limit of the server: an index entry, nesting
    "57": _T,  # shutting down, starting up, terminated
    "58": _T,  # input/output
    "72": _T,
    "XX": _T,  # internal; poolers use it for their own errors too
    # All other classes mean that the database or our statement is wrong. No row causes these errors.
    **dict.fromkeys(["03", "09", "0A", "0B", "0F", "0L", "0P", "0Z", "10", "20", "21", "24", "25", "26", "27"], _C),
    **dict.fromkeys(["28", "2B", "2D", "2F", "34", "38", "39", "3B", "3D", "3F", "42", "44", "55"], _C),
    **dict.fromkeys(["F0", "HV", "P0"], _C),
}

# Supavisor reports every problem as internal_error.
_POOLER_CONFIGURATION = ("tenant or user not found", "unsupported or invalid secret format")

_STARTUP_PARAMETER = re.compile(r"unsupported startup parameter[^:]*: ([A-Za-z_.]{1,60})")

# SQLSTATE -> the problem and the fix.
_ADVICE = {
    "28P01": (
        "it refuses the login",
        "Check user and password in SUPABASE_DB_URL. Special characters of the password must be percent-encoded.",
    ),
    "28000": (
        "it refuses the login",
        "Check user and password in SUPABASE_DB_URL. The user needs LOGIN, and pg_hba.conf must allow it.",
    ),
    "3D000": ("there is no such database", "Check the name at the end of SUPABASE_DB_URL."),
    "53300": (
        "it has no free connection",
        "Lower NEXUS_DATABASE_POOL_MAX or the number of sinks, or raise max_connections.",
    ),
    "57P03": ("it is starting or shutting down", "Wait, and check the server's log."),
    "42501": ("the login lacks a privilege", "Run `nexus migrate`, then: grant nexus_sink to <user>."),
    **dict.fromkeys(
        ["26000", "42P05"],
        (
            "prepared statements do not work behind a transaction pooler",
            "Set NEXUS_DATABASE_POOLER_MODE=transaction.",
        ),
    ),
    "XX000": ("the pooler does not know this project or user", "Check host and user in SUPABASE_DB_URL."),
}
_NOT_AS_EXPECTED = {"42P01", "42703", "42883", "42P10", "3F000"}


def failure_of(sqlstate: str) -> Failure | None:
    """Return the action for a code, or None for an unknown code."""
    return _BY_CODE.get(sqlstate) or _BY_CLASS.get(sqlstate[:2])


def classify(error: BaseException) -> Failure | None:
    """Return the action for an exception, or None if it is not a database error.

    An unknown code is transient: a retry loses nothing, and the lag alert shows the problem.
    """
    match error:
        case RefusedCallError():
            return error.failure
        case exceptions.InvalidCachedStatementError() | exceptions.OutdatedSchemaCacheError():
            # The schema changed under a prepared statement. The next connection prepares it again.
            return _T
        case asyncpg.InternalServerError() if _pooler_refuses(error):
            return _C
        case asyncpg.PostgresError() if _refused_parameter(error) is not None:
            return _C
        case asyncpg.PostgresError():
            return failure_of(error.sqlstate or "") or _T
        case exceptions.DataError():
            # asyncpg could not encode a value (example: a lone surrogate).
            return _B
        case (
            exceptions.ClientConfigurationError()
            | exceptions.UnsupportedClientFeatureError()
            | exceptions.UnsupportedServerFeatureError()
        ):
            return _C
        case asyncpg.InterfaceError() | asyncpg.InternalClientError():
            # "connection is closed", "connection was lost in the middle of an operation", a broken protocol.
            return _T
        case ssl.SSLCertVerificationError():
            return _C
        case ConnectionError() if is_tls_refused(error):
            return _C
        case OSError() | TimeoutError():
            return _T
        case _:
            return None


def _pooler_refuses(error: asyncpg.PostgresError) -> bool:
    text = str(error.args[0]).lower() if error.args else ""
    return any(phrase in text for phrase in _POOLER_CONFIGURATION)


def _refused_parameter(error: BaseException) -> str | None:
    """The parameter of the DSN that a pooler does not pass on (pgbouncer: ignore_startup_parameters)."""
    text = str(error.args[0]) if isinstance(error, asyncpg.PostgresError) and error.args else ""
    found = _STARTUP_PARAMETER.search(text)
    return found[1] if found else None


def original(error: BaseException) -> BaseException:
    """Return the error that ended a connection. The rollback hides it behind "connection is closed"."""
    found: BaseException | None = error
    while isinstance(found, asyncpg.InterfaceError):
        found = found.__context__
    return found if isinstance(found, asyncpg.PostgresError | OSError) else error


def needs_new_connection(error: BaseException) -> bool:
    """Whether to replace the open connections: they may lead to a server that stopped, is read-only or out of date.

    True for every error that is retried. A new connection takes milliseconds. An old one to the wrong server fails the
    batch again.
    """
    return classify(error) is Failure.TRANSIENT or classify(original(error)) is Failure.TRANSIENT


def describe(error: BaseException) -> str:
    """Describe an error without data of the row.

    The description omits the server's own message, which quotes the refused value ("invalid input syntax for type ...:
    "...").
    """
    if isinstance(error, RefusedCallError):
        return str(error)
    if not isinstance(error, asyncpg.PostgresError):
        return type(error).__name__
    where = [
        f"{label} {value}"
        for label, value in (
            ("constraint", getattr(error, "constraint_name", None)),
            ("column", getattr(error, "column_name", None)),
            ("table", getattr(error, "table_name", None)),
        )
        if value
    ]
    return f"{type(error).__name__}" + (f" ({', '.join(where)})" if where else "")


def advice(error: BaseException) -> tuple[str, str] | None:
    """The problem and the fix; None for an unknown error."""
    if is_tls_refused(error):
        return (
            "the server does not support TLS, but sslmode in SUPABASE_DB_URL requires it",
            "Use the server's TLS port, or enable TLS on the server.",
        )
    if (parameter := _refused_parameter(error)) is not None:
        return (
            f"the pooler does not accept the parameter {parameter}",
            f"Remove {parameter} from the end of SUPABASE_DB_URL, or connect without the pooler.",
        )
    sqlstate = getattr(error, "sqlstate", None)
    if sqlstate in _NOT_AS_EXPECTED:
        return f"its tables or functions are not as expected ({describe(error)})", "Run `nexus migrate`."
    return _ADVICE.get(sqlstate or "")


def is_tls_refused(error: BaseException) -> bool:
    """Whether the server answered that it does not support TLS."""
    return isinstance(error, ConnectionError) and "rejected SSL upgrade" in str(error)
