"""The session key: no two (tenant, session) pairs share one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexus_stream.contracts.session_key import TENANT_PATTERN, parse_session_key, session_key

TENANTS = st.from_regex(TENANT_PATTERN, fullmatch=True).filter(lambda tenant: not tenant.endswith("\n"))
SESSIONS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30)
# Similar on purpose: a mistake would give two pairs the same key.
CLOSE = st.text("a:", min_size=1, max_size=5)


@pytest.mark.parametrize(
    ("tenant", "session", "key"),
    [
        ("", "s-1", b"s-1"),
        ("acme", "s-1", b"acme:s-1"),
        ("", "a:b", b":a:b"),
        ("a", "b", b"a:b"),
        ("acme", "a:b", b"acme:a:b"),
        ("", "niño", "niño".encode()),
    ],
)
def test_it_is_written_as_documented(tenant: str, session: str, key: bytes) -> None:
    assert session_key(tenant, session) == key


@given(TENANTS, SESSIONS | CLOSE)
def test_it_can_be_read_back(tenant: str, session: str) -> None:
    assert parse_session_key(session_key(tenant, session)) == (tenant, session)


@given(st.sampled_from(["", "a", "aa"]), CLOSE, st.sampled_from(["", "a", "aa"]), CLOSE)
def test_different_sessions_have_different_keys(tenant: str, session: str, other_tenant: str, other: str) -> None:
    same_key = session_key(tenant, session) == session_key(other_tenant, other)
    assert same_key == ((tenant, session) == (other_tenant, other))


@pytest.mark.parametrize("tenant", ["a:b", "a b", "ñ", "a\n", "x" * 65])
def test_a_tenant_of_other_characters_is_refused(tenant: str) -> None:
    with pytest.raises(ValueError, match="tenant_id"):
        session_key(tenant, "s")
