"""Ids: numbers, values of broken code, placeholders. A stranger's session is never shared, and no lead is lost."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexus_stream.contracts.conversation import Conversation, read
from nexus_stream.contracts.limits import Limits
from nexus_stream.contracts.placeholders import is_no_tenant, is_placeholder
from nexus_stream.contracts.plain_form import Noticed
from nexus_stream.errors import DecodeError

PLACEHOLDERS = [
    *("undefined", "null", "None", "NIL", " nan ", "NaN", "[object Object]", "[object Promise]", "{}", "[]", "true"),
    *("False", "0", "-1", "0.0", "Infinity", "unknown", "Anonymous", "anon", "guest", "n/a", "default", "string"),
    *("fingerprint", "sessionId", "session_id", "session-id", "visitorId", "visitor id", "userId", "id", "UUID"),
    *("${sessionId}", "sess-${crypto.randomUUID()}", "{{ session_id }}", "<%= id %>", "#{id}", "%s", "%(id)s", "{id}"),
    *("<session-id>", "[id]", "$sessionId", "your-session-id", "()=>crypto.randomUUID()", "function () { return id }"),
    *("async () => x", "class A {}", "00000000-0000-0000-0000-000000000000", "ffffffff-ffff-ffff-ffff-ffffffffffff"),
    *("xxxxxxxx-xxxx-4xxx-yxxx-xxxxxxxxxxxx", '"undefined"', "'null'", "session-undefined", "undefined_undefined"),
    *(":r0:", ":R15bnnja:", "«r0»", "_r_0_", "_R_1abc_", "v-0", "v-0-1", "Array", "(not set)", "not-set", "no-id"),
    *("%!s(<nil>)", "Invalid Date", "anonymousUser", "guestUser", "nullnull", "NaNundefined", "undefinedundefined"),
    *("[Function: id]", "[Function (anonymous)]", "%5Bobject%20Object%5D", "System.String[]", "Optional.empty"),
    *("<function f at 0x7f>", "Object id #1", "session_undefined_0", "*|SESSION|*", "{%session%}", "your-id-here"),
    *("d41d8cd98f00b204e9800998ecf8427e", "dW5kZWZpbmVk", "session", "visitor", "user", "-1.0"),
    *("chat:null", "visitor_[object Object]", "---", "...", "desconocido", "anónimo", "indefinido", "sesion-nulo"),
]
IDS = [
    *("s", "s-1", "session-7", "session-0", "a:b", ":b", "1", "-2", "1768478400123", "fp-1", "my-session", "test-1"),
    *("{550e8400-e29b-41d4-a716-446655440000}", "550e8400-e29b-41d4-a716-446655440000", "f0" * 32, "00000001"),
    *("V1StGXR8_Z5jdHi6B-myT", "ñandú", "carlos", "undefined-1768478400123", "guest-7f3a", "xxxx", "日本"),
]


@pytest.mark.parametrize("text", PLACEHOLDERS)
def test_a_placeholder_is_no_id(text: str) -> None:
    assert is_placeholder(text)


@pytest.mark.parametrize("text", IDS)
def test_an_id_is_no_placeholder(text: str) -> None:
    assert not is_placeholder(text)


@given(st.uuids(version=4))
def test_no_uuid_is_a_placeholder(value: object) -> None:
    assert not is_placeholder(str(value))


@pytest.mark.parametrize("text", ["(", "async ", "=", "{", "x", "[object ", "function ", "-", "undefined-", "\u00df"])
def test_a_hostile_id_costs_no_time(text: str) -> None:
    began = time.process_time()
    is_placeholder((text * 1024)[:1024])
    assert time.process_time() - began < 0.05


def test_a_tenant_may_be_called_default() -> None:
    assert [is_no_tenant(word) for word in ("undefined", "Null", "tenant_id", "default", "guest", "acme")] == [
        *(True, True, True),
        *(False, False, False),
    ]


def read_with(limits: Limits = Limits(), **fields: Any) -> tuple[Conversation, Noticed | None]:  # noqa: B008 - frozen
    body = {"messages": [{"role": "user", "content": "hola"}], "sessionId": "s-1", **fields}
    return read(json.dumps(body).encode(), limits)


def code_of(**fields: Any) -> str | None:
    with pytest.raises(DecodeError) as caught:
        read_with(**fields)
    return caught.value.code


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1768478400123, "1768478400123"),
        (7, "7"),
        (-2, "-2"),
        (1768478400.0, "1768478400"),
        (1.5, "1.5"),
        (10**30, "1" + "0" * 30),
    ],
)
def test_a_number_is_taken_as_text(value: float, text: str) -> None:
    conversation, noticed = read_with(sessionId=value, fingerprint=value)
    assert (conversation.session_id, conversation.fingerprint) == (text, text)
    assert noticed is not None
    assert not noticed.ignored


@pytest.mark.parametrize(
    ("fingerprint", "why"),
    [
        *((word, "placeholder") for word in PLACEHOLDERS),
        *((value, "placeholder") for value in ({}, [], True, False, 0, -1, float("nan"), float("inf"))),
        *((value, "invalid") for value in ({"a": 1}, ["x"], "a\x00", "a\nb", "session:someone")),
        *((value, "too_long") for value in ("x" * 257, 10**300, 10**4000)),
        *((value, None) for value in (None, "", "  ")),
    ],
)
def test_a_fingerprint_that_is_no_id_is_a_missing_one(fingerprint: object, why: str | None) -> None:
    conversation, noticed = read_with(fingerprint=fingerprint)
    assert conversation.fingerprint is None
    assert (noticed.ignored if noticed else {}) == ({"fingerprint": why} if why else {})


@pytest.mark.parametrize(
    ("session_id", "code"),
    [
        *((word, "session_id_placeholder") for word in PLACEHOLDERS),
        *((value, "session_id_placeholder") for value in ({}, [], True, False, 0, -1, float("nan"))),
        *((value, "session_id_invalid") for value in ({"a": 1}, ["x"], "a\x00", "a\nb")),
        *((value, "session_id_too_long") for value in ("x" * 257, 10**300, 10**4000)),
        *((value, "session_id_required") for value in (None, "", "  ")),
    ],
)
def test_a_session_id_that_is_no_id_is_refused(session_id: object, code: str) -> None:
    assert code_of(sessionId=session_id) == code


def test_the_chat_id_of_use_chat_is_taken_if_there_is_no_session_id() -> None:
    assert read_with(sessionId=None, id="chat-Xy12")[0].session_id == "chat-Xy12"
    conversation, noticed = read_with(sessionId="undefined", id=17)
    assert conversation.session_id == "17"
    assert noticed is not None
    assert noticed.ignored == {"session_id": "placeholder"}
    assert read_with(sessionId="s-1", id="chat-Xy12")[0].session_id == "s-1"
    assert code_of(sessionId=None, id="undefined") == "session_id_placeholder"


@pytest.mark.parametrize(("tenant_id", "kept"), [("undefined", ""), ({}, ""), (True, ""), ("acme", "acme"), (5, "5")])
def test_a_placeholder_as_tenant_is_none(tenant_id: object, kept: str) -> None:
    conversation, noticed = read_with(metadata={"tenant_id": tenant_id})
    assert conversation.tenant_id == kept
    assert (noticed is not None and noticed.ignored == {"tenant_id": "placeholder"}) is (not kept)


def test_a_wrong_tenant_never_becomes_none() -> None:
    assert code_of(metadata={"tenant_id": "a:b"}) == "tenant_invalid"
    assert code_of(metadata={"tenant_id": ["a"]}) == "tenant_invalid"


@pytest.mark.parametrize(("metadata", "noticed"), [(None, False), ([], False), ("x", True), ([1], True), (7, True)])
def test_metadata_that_is_no_object_is_missing(metadata: object, noticed: bool) -> None:
    conversation, seen = read_with(metadata=metadata)
    assert conversation.metadata.url is None
    assert bool(seen and seen.ignored == {"metadata": "invalid"}) is noticed


@pytest.mark.parametrize(
    ("metadata", "identity", "is_proven"),
    [
        ({"identity": "u-17", "identityProven": True}, "u-17", True),
        ({"identity": 17, "identityProven": "yes"}, "17", False),
        ({"identity": "u-17", "identity_proven": True}, "u-17", False),
        ({"identity": "undefined", "identityProven": True}, None, True),
        ({"identity": "x" * 257}, None, False),
        ({"identity": {"a": 1}}, None, False),
    ],
)
def test_the_visitors_identity(metadata: dict[str, Any], identity: str | None, is_proven: bool) -> None:
    found = read_with(metadata=metadata)[0].metadata
    assert (found.identity, found.identity_proven) == (identity, is_proven)
