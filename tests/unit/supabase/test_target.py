"""A DSN is parsed or refused, and never shown."""

from __future__ import annotations

import inspect
import traceback
from pathlib import Path

import pytest
from asyncpg import connect_utils

from nexus_stream.errors import ConfigurationError
from nexus_stream.settings import load_settings
from nexus_stream.supabase.pool import statement_cache_size, target_of
from nexus_stream.supabase.target import Mode, parse_target, require_secure


@pytest.mark.parametrize(
    # No mode: neither port nor name decides it; a connection can find out.
    ("dsn", "shown", "mode"),
    [
        ("postgresql://u:pw@db.example.com:5432/postgres", "db.example.com:5432/postgres", None),
        ("postgres://u:pw@db.example.com/other", "db.example.com:5432/other", None),
        ("postgresql://u:pw@db.example.com:6543/postgres", "db.example.com:6543/postgres", Mode.TRANSACTION_POOLER),
        (
            "postgresql://postgres.ref:pw@aws-0-eu-west-1.pooler.supabase.com:5432/postgres",
            "aws-0-eu-west-1.pooler.supabase.com:5432/postgres",
            Mode.SESSION_POOLER,
        ),
        (
            "postgresql://postgres.ref:pw@aws-0-eu-west-1.pooler.supabase.com:6543/postgres",
            "aws-0-eu-west-1.pooler.supabase.com:6543/postgres",
            Mode.TRANSACTION_POOLER,
        ),
        ("postgresql://u@[::1]:5433/x", "::1:5433/x", None),
        ("postgresql://u@a.example.com:1,b.example.com:2/x", "a.example.com:1,b.example.com:2/x", None),
        ("postgresql://u@/x?host=/run/postgresql", "/run/postgresql:5432/x", None),
        ("postgresql://u:p%40ss@db.example.com/x", "db.example.com:5432/x", None),
        ("postgresql://u:pw@db.example.com", "db.example.com:5432/u", None),
        ("postgresql://u:pw@db.example.com?dbname=y", "db.example.com:5432/y", None),
        ("postgresql://u:pw@?host=db.example.com&port=5433&database=y", "db.example.com:5433/y", None),
    ],
)
def test_a_dsn_is_parsed(dsn: str, shown: str, mode: Mode) -> None:
    target = parse_target(dsn)
    assert str(target) == shown
    assert target.mode is mode
    assert (statement_cache_size(target) > 0) is (mode is Mode.SESSION_POOLER)
    assert "pw" not in repr(target)
    assert "p%40ss" not in repr(target)


@pytest.mark.parametrize(
    "dsn",
    [
        "postgresql://u:s3cret@s3cret@db.example.com/x",
        "postgresql://u:s3cret#s3cret@db.example.com/x",
        "postgresql://u:s3cret/s3cret@db.example.com/x",
        "postgresql://u:s3cret?s3cret@db.example.com/x",
        "postgresql://u:12#s3cret@db.example.com/x",
        "postgresql://u:12/s3cret@db.example.com/x",
        "postgresql://u:12?s3cret@db.example.com/x",
        "postgresql://u:s3cret@/x",
        "postgresql://u:s3cret@db.example.com:http/x",
        "postgresql://u:s3cret@db.example.com:99999/x",
        "postgresql://u:s3cret@[::1/x",
        "mysql://u:s3cret@db.example.com/x",
        "s3cret",
    ],
)
def test_a_malformed_dsn_is_refused_and_not_shown(dsn: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        parse_target(dsn)
    assert "s3cret" not in "".join(traceback.format_exception(raised.value))
    assert "SUPABASE_DB_URL" in str(raised.value)


@pytest.mark.parametrize(
    ("dsn", "allowed"),
    [
        ("postgresql://u:pw@db.example.com/x?sslmode=verify-full&sslrootcert={ca}", True),
        ("postgresql://u:pw@db.example.com/x", False),
        ("postgresql://u:pw@db.example.com/x?sslmode=require", False),
        ("postgresql://u:pw@db.example.com/x?sslmode=verify-ca", False),
        ("postgresql://u:pw@127.0.0.1/x", True),
        ("postgresql://u:pw@localhost/x?sslmode=disable", True),
        ("postgresql://u:pw@[::1]/x", True),
        ("postgresql://u:pw@127.0.0.1,db.example.com/x", False),
        ("postgresql://u:pw@localhost.example.com/x", False),
        ("postgresql://u:pw@/x?host=127.0.0.1", True),
        ("postgresql://u:pw@/x?host=db.example.com", False),
    ],
)
def test_production_needs_a_verified_server(dsn: str, allowed: bool, tmp_path: Path) -> None:
    authority = tmp_path / "ca.crt"
    authority.write_text("a certificate")
    environ = {"NEXUS_ENV": "production", "SUPABASE_DB_URL": dsn.format(ca=authority)}
    settings = load_settings(environ=environ)
    if allowed:
        require_secure(target_of(settings), production=True)
        return
    with pytest.raises(ConfigurationError, match="verify-full") as raised:
        target_of(settings)
    assert "pw" not in str(raised.value)


@pytest.mark.parametrize(
    "dsn",
    [
        "postgresql://u:s3cret@db.example.com:5432/postgres?host=localhost",
        "postgresql://u:s3cret@127.0.0.1/x?host=db.example.com",
        "postgresql://u:s3cret@localhost/x?hostaddr=192.0.2.1",
        "postgresql://u:s3cret@db.example.com/x?port=6543",
        "postgresql://u:s3cret@:5433/x?host=db.example.com",
        "postgresql://u:s3cret@/x?host=db.example.com:5433&port=6543",
        "postgresql://u:s3cret@db.example.com/x?dbname=y",
        "postgresql://u:s3cret@db.example.com/?database=y",
        "postgresql://u:s3cret@db.example.com?dbname=x&database=y",
    ],
)
def test_a_dsn_with_two_hosts_ports_or_names_is_refused(dsn: str) -> None:
    """The check would use one value, and the connection the other."""
    for environ in ({}, {"NEXUS_ENV": "production"}):
        with pytest.raises(ConfigurationError, match=r"in both places|appears twice") as raised:
            target_of(load_settings(environ={**environ, "SUPABASE_DB_URL": dsn}))
        assert "s3cret" not in str(raised.value)


@pytest.mark.parametrize(
    "dsn",
    [
        "postgresql://u:pw@db.example.com/x",
        "postgresql://u:pw@db.example.com",
        "postgresql://u@a.example.com:1,b.example.com/x",
        "postgresql://u:pw@/x?host=db.example.com&port=5433",
        "postgresql://u:pw@?host=db.example.com&dbname=x&user=v",
        "postgresql://u@[::1]:5433/x",
        "postgresql://u@/x?host=/run/postgresql",
    ],
)
def test_the_driver_connects_to_the_parsed_host(dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PGPORT", "PGHOST", "PGDATABASE", "PGUSER", "PGSERVICE"):
        monkeypatch.delenv(name, raising=False)
    signature = inspect.signature(connect_utils._parse_connect_dsn_and_args)
    addresses, parameters = connect_utils._parse_connect_dsn_and_args(
        **{**dict.fromkeys(signature.parameters), "dsn": dsn}
    )[:2]
    target = parse_target(dsn)
    expected = [
        f"{host}/.s.PGSQL.{port}" if host.startswith("/") else (host, port)
        for host, port in zip(target.hosts, target.ports, strict=True)
    ]
    assert (addresses, parameters.database) == (expected, target.database)


@pytest.mark.parametrize(
    ("setting", "mode", "cached"),
    [
        ("none", Mode.DIRECT, True),
        ("session", Mode.SESSION_POOLER, True),
        ("transaction", Mode.TRANSACTION_POOLER, False),
    ],
)
def test_a_setting_wins_over_port_and_name(setting: str, mode: Mode, cached: bool) -> None:
    for dsn in ("postgresql://u@db.example.com:6543/x", "postgresql://u@x.pooler.supabase.com:5432/x"):
        environ = {"SUPABASE_DB_URL": dsn, "NEXUS_DATABASE_POOLER_MODE": setting}
        target = target_of(load_settings(environ=environ))
        assert target.mode is mode
        assert (statement_cache_size(target) > 0) is cached


def test_a_certificate_file_that_is_not_there_is_named_in_any_environment() -> None:
    dsn = "postgresql://u:pw@db.example.com/x?sslmode=verify-full&sslrootcert=/no/such.crt"
    with pytest.raises(ConfigurationError, match=r"there is no file /no/such\.crt"):
        target_of(load_settings(environ={"SUPABASE_DB_URL": dsn}))


def test_development_accepts_any_connection() -> None:
    settings = load_settings(environ={"SUPABASE_DB_URL": "postgresql://u:pw@db.example.com/x"})
    assert str(target_of(settings)) == "db.example.com:5432/x"


def test_without_a_dsn_the_variable_is_named() -> None:
    with pytest.raises(ConfigurationError, match="SUPABASE_DB_URL: not set"):
        target_of(load_settings(environ={}))
