"""Messages of database errors name the fix and contain no data of the rows."""

from __future__ import annotations

import asyncpg
import pytest

from nexus_stream.errors import ConfigurationError
from nexus_stream.supabase.pool import to_nexus_error
from nexus_stream.supabase.target import parse_target

_TARGET = parse_target("postgresql://u:pw@db.example.com/x")


@pytest.mark.parametrize(
    "kind",
    [
        # A function that builds a statement from its arguments.
        asyncpg.PostgresSyntaxError,
        asyncpg.InvalidNameError,
        asyncpg.AmbiguousColumnError,
        asyncpg.InvalidAuthorizationSpecificationError,
        asyncpg.InvalidTextRepresentationError,
        asyncpg.RaiseError,
    ],
)
def test_the_servers_message_is_not_repeated(kind: type[asyncpg.PostgresError]) -> None:
    error = kind('syntax error at or near "ana@example.com"')
    error.detail = "Failing row contains (ana@example.com)."
    told = to_nexus_error(error, _TARGET)
    assert isinstance(told, ConfigurationError)
    assert "ana@" not in str(told)
    assert kind.sqlstate is not None
    assert f"[{kind.sqlstate}]" in str(told)
    assert "pw" not in str(told)


def test_the_drivers_own_message_is_repeated() -> None:
    error = asyncpg.exceptions.ClientConfigurationError("`sslmode` parameter must be one of: disable, verify-full")
    assert "must be one of: disable, verify-full" in str(to_nexus_error(error, _TARGET))
