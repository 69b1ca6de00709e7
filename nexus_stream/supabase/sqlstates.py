"""What a database error means for the batch it happened to.

From: any exception asyncpg raises. To: the writer, which retries, bisects, halves or stops. Codes are PostgreSQL's
(Appendix A, "PostgreSQL Error Codes"); a test walks asyncpg's exception classes and fails on one this table misses.
"""

from __future__ import annotations

import ssl
from enum import StrEnum

import asyncpg
from asyncpg import exceptions

__all__ = ["Failure", "RefusedCallError", "classify", "describe", "failure_of", "needs_new_connection", "original"]


class Failure(StrEnum):
    """What to do about an error."""

    TRANSIENT = "transient"  # the same batch will succeed later: wait, retry
    BAD_ROW = "bad_row"  # one row is at fault: find it, write the others
    SMALLER_BATCH = "smaller_batch"  # too much at once
    CONFIGURATION = "configuration"  # somebody has to fix the database or the settings: stop


class RefusedCallError(Exception):
    """A call of the installation's own function came to nothing, without an SQL error.

    Attributes:
        failure: What to do about it.
        sqlstate: The code it gave, or that of RAISE.
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
    "P0001": _B,  # RAISE in a trigger of the installation's own, about this row
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
    "54": _B,  # a value over a limit of the server: an index entry, nesting
    "57": _T,  # shutting down, starting up, terminated
    "58": _T,  # input/output
    "72": _T,
    "XX": _T,  # internal; poolers report their own troubles so too
    # All others mean that the database, or what we send it, is not as it should be: no row is at fault.
    **dict.fromkeys(["03", "09", "0A", "0B", "0F", "0L", "0P", "0Z", "10", "20", "21", "24", "25", "26", "27"], _C),
    **dict.fromkeys(["28", "2B", "2D", "2F", "34", "38", "39", "3B", "3D", "3F", "42", "44", "55"], _C),
    **dict.fromkeys(["F0", "HV", "P0"], _C),
}

# Supavisor answers with internal_error, whatever is wrong.
_POOLER_CONFIGURATION = ("tenant or user not found", "unsupported or invalid secret format")


def failure_of(sqlstate: str) -> Failure | None:
    """What a code means; None for one that no table lists."""
    return _BY_CODE.get(sqlstate) or _BY_CLASS.get(sqlstate[:2])


def classify(error: BaseException) -> Failure | None:
    """What an exception means; None when it is none of the database's.

    A code unknown here is transient: nothing is lost by trying again, and the lag alert shows it.
    """
    match error:
        case RefusedCallError():
            return error.failure
        case exceptions.InvalidCachedStatementError() | exceptions.OutdatedSchemaCacheError():
            # The schema changed under a prepared statement: the next connection prepares it anew.
            return _T
        case asyncpg.InternalServerError() if _pooler_refuses(error):
            return _C
        case asyncpg.PostgresError():
            return failure_of(error.sqlstate or "") or _T
        case exceptions.DataError():
            # asyncpg could not encode a value (a lone surrogate, say).
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
        case ConnectionError() if "rejected SSL upgrade" in str(error):
            return _C
        case OSError() | TimeoutError():
            return _T
        case _:
            return None


def _pooler_refuses(error: asyncpg.PostgresError) -> bool:
    text = str(error.args[0]).lower() if error.args else ""
    return any(phrase in text for phrase in _POOLER_CONFIGURATION)


def original(error: BaseException) -> BaseException:
    """The error that ended a connection, instead of "connection is closed", which the rollback after it raises."""
    found: BaseException | None = error
    while isinstance(found, asyncpg.InterfaceError):
        found = found.__context__
    return found if isinstance(found, asyncpg.PostgresError | OSError) else error


def needs_new_connection(error: BaseException) -> bool:
    """Whether to leave the open connections: they may lead to a server that is gone, read-only or out of date.

    True for whatever is tried again. A new connection costs milliseconds; an old one to the wrong server, the batch.
    """
    return classify(error) is Failure.TRANSIENT or classify(original(error)) is Failure.TRANSIENT


def describe(error: BaseException) -> str:
    """An error in words that hold none of the row's data.

    The server's own message is left out: it quotes the value it refuses ("invalid input syntax for type ...: "...").
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
