"""SUPABASE_DB_URL as people paste it."""

from __future__ import annotations

import inspect
import traceback

import pytest
from asyncpg import connect_utils

from nexus_stream.errors import ConfigurationError
from nexus_stream.supabase.dsn import clean_dsn
from nexus_stream.supabase.target import Mode, parse_target

PLAIN = "postgresql://u:pw@db.example.com:5432/postgres"


@pytest.mark.parametrize(
    ("query", "left", "left_out"),
    [
        ("sslmode=require&supa=base-pooler.x", "sslmode=require", ("supa",)),
        ("pgbouncer=true&connection_limit=1", "", ("connection_limit",)),
        ("connect_timeout=10", "", ()),
        ("schema=public&pool_timeout=0&socket_timeout=5", "", ("schema", "pool_timeout", "socket_timeout")),
        ("sslmode=verify-full&sslrootcert=/a%20b.crt", "sslmode=verify-full&sslrootcert=/a%20b.crt", ()),
        ("channel_binding=require&sslmode=require", "sslmode=require", ("channel_binding",)),
        ("application_name=site&target_session_attrs=any", "target_session_attrs=any", ("application_name",)),
        ("options=-c%20search_path%3Dpublic", "options=-c%20search_path%3Dpublic", ()),
        ("statement_cache_size=0&", "", ()),
        ("sslmode=no-verify", "sslmode=require", ()),
        ("ssl=true", "sslmode=require", ()),
        ("ssl=false&sslmode=require", "sslmode=require", ()),
        ("connectTimeout", "", None),
    ],
)
def test_known_parameters_are_used_or_left_out(query: str, left: str, left_out: tuple[str, ...] | None) -> None:
    if left_out is None:
        with pytest.raises(ConfigurationError, match="the parameter connectTimeout is not known"):
            clean_dsn(f"{PLAIN}?{query}")
        return
    clean = clean_dsn(f"{PLAIN}?{query}")
    assert clean.text == (f"{PLAIN}?{left}" if left else PLAIN)
    assert clean.left_out == left_out
    # The driver sends to the server whatever it does not know.
    signature = inspect.signature(connect_utils._parse_connect_dsn_and_args)
    parameters = connect_utils._parse_connect_dsn_and_args(
        **{
            **dict.fromkeys(signature.parameters),
            "dsn": clean.text.replace("verify-full&sslrootcert=/a%20b.crt", "require"),
        }
    )[1]
    assert set(parameters.server_settings or {}) <= {"options"}


@pytest.mark.parametrize(
    ("query", "mode"),
    [
        ("pgbouncer=true", Mode.TRANSACTION_POOLER),
        ("pgbouncer=false", None),
        ("statement_cache_size=0", Mode.TRANSACTION_POOLER),
        ("statement_cache_size=100", None),
        ("prepareThreshold=0", Mode.TRANSACTION_POOLER),
        ("prepare=false", Mode.TRANSACTION_POOLER),
    ],
)
def test_a_dsn_that_asks_for_a_pooler(query: str, mode: Mode | None) -> None:
    assert parse_target(f"{PLAIN}?{query}").mode is mode
    assert parse_target(f"{PLAIN}?{query}", "session").mode is Mode.SESSION_POOLER


@pytest.mark.parametrize(("text", "seconds"), [("10", 10.0), ("0", None), ("-1", None), ("soon", None)])
def test_the_time_to_connect(text: str, seconds: float | None) -> None:
    assert parse_target(f"{PLAIN}?connect_timeout={text}").connect_timeout_seconds == seconds


@pytest.mark.parametrize(
    "pasted", [f'"{PLAIN}"', f"'{PLAIN}'", f"  {PLAIN}\n", f"`{PLAIN}`", PLAIN.replace("ql://", "ql+asyncpg://")]
)
def test_what_surrounds_it_is_removed(pasted: str) -> None:
    assert parse_target(pasted).dsn == PLAIN


@pytest.mark.parametrize(
    ("dsn", "problem"),
    [
        ("postgresql://u:[YOUR-PASSWORD]@db.example.com:5432/postgres", "still holds the placeholder"),
        ("postgresql://u:[your password]@db.example.com:5432/postgres", "still holds the placeholder"),
        ("postgresql://u:<password>@db.example.com:5432/postgres", "still holds the placeholder"),
        ("postgresql://u:YOUR_PASSWORD@db.example.com:5432/postgres", "still holds the placeholder"),
        ("postgresql://u:[s3cret]@db.example.com:5432/postgres", "remove the brackets around the password"),
        (f"{PLAIN}?magic=s3cret", "the parameter magic is not known to PostgreSQL's clients: remove it"),
        ("postgresql://u:12?s3cret=x@db.example.com/x", "percent-encoded"),
        ("postgresql://u:12?a=b&s3cret@db.example.com/x", "percent-encoded"),
        ("postgresql://u:12?s3cret&c@db.example.com/x", "percent-encoded"),
    ],
)
def test_the_message_names_the_problem_and_no_secret(dsn: str, problem: str) -> None:
    with pytest.raises(ConfigurationError, match="SUPABASE_DB_URL") as raised:
        parse_target(dsn)
    assert problem in str(raised.value)
    assert "s3cret" not in "".join(traceback.format_exception(raised.value))
