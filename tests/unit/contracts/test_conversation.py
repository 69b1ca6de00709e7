"""Decoding of conversations: accepted, ignored and refused input."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from nexus_stream.contracts.conversation import Conversation, Limits, Message, decode, digest
from nexus_stream.errors import DecodeError, Reason

LIMITS = Limits(body_bytes=2000, turns=3, turn_chars=20, id_chars=10)


def body(**changes: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": "hola"}], "sessionId": "s-1", **changes}


def read(value: object, limits: Limits = LIMITS) -> Conversation:
    return decode(json.dumps(value).encode(), limits)


def refused(value: bytes | None, limits: Limits = LIMITS) -> DecodeError:
    with pytest.raises(DecodeError) as caught:
        decode(value, limits)
    return caught.value


def refused_body(value: object) -> DecodeError:
    return refused(json.dumps(value).encode())


def test_unknown_keys_are_ignored() -> None:
    conversation = read(
        body(messages=[{"role": "user", "content": "hola", "timestamp": "2026-01-15T12:00:00Z"}], extra={"a": 1})
    )
    assert conversation.messages == (Message(role="user", content="hola"),)


@pytest.mark.parametrize("missing", [{}, {"fingerprint": None}, {"fingerprint": ""}, {"fingerprint": "  "}])
def test_an_empty_fingerprint_is_a_missing_one(missing: dict[str, Any]) -> None:
    assert read(body(**missing)).fingerprint is None


def test_browser_context_is_kept_if_it_is_text_and_dropped_otherwise() -> None:
    metadata = read(body(metadata={"url": 7, "userAgent": ["x"], "enqueuedAt": "x" * 5000}), Limits()).metadata
    assert (metadata.url, metadata.user_agent) == (None, None)
    assert metadata.enqueued_at is not None
    assert len(metadata.enqueued_at) == 2048


@pytest.mark.parametrize("metadata", [None, {}])
def test_metadata_may_be_left_out(metadata: object) -> None:
    assert read(body(metadata=metadata)).tenant_id == ""


def test_the_key_holds_the_tenant() -> None:
    assert read(body(metadata={"tenant_id": "acme"})).key == b"acme:s-1"
    assert read(body(metadata={"tenant_id": ""})).key == b"s-1"


@pytest.mark.parametrize("consent", [None, "", " ", {}, []])
def test_an_empty_consent_is_a_missing_one(consent: object) -> None:
    assert read(body(metadata={"consent": consent})).metadata.consent is None


@pytest.mark.parametrize("consent", ["maybe", [1], {"a": 1}, 7])
def test_a_consent_that_is_neither_yes_nor_no_is_refused(consent: object) -> None:
    assert list(refused_body(body(metadata={"consent": consent})).details) == ["metadata.consent"]


@pytest.mark.parametrize(
    ("text", "milliseconds"),
    [
        ("2026-01-15T12:00:00.250Z", 1_768_478_400_250),
        ("2026-01-15T12:00:00", 1_768_478_400_000),
        ("2026-01-15T07:00:00-05:00", 1_768_478_400_000),
        ("1960-01-01T00:00:00Z", 0),
        ("yesterday", None),
        (None, None),
    ],
)
def test_the_gateways_time(text: str | None, milliseconds: int | None) -> None:
    assert read(body(metadata={"enqueuedAt": text})).enqueued_at_ms == milliseconds


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, Reason.EMPTY),
        (b"", Reason.EMPTY),
        (b"hola", Reason.NOT_JSON),
        (b'{"messages": [', Reason.NOT_JSON),
        (b"\xff\xfe", Reason.NOT_JSON),
        (b"[]", Reason.WRONG_SHAPE),
        (b"null", Reason.WRONG_SHAPE),
        (b'"x"', Reason.WRONG_SHAPE),
        (b"x" * 2001, Reason.TOO_LARGE),
    ],
)
def test_bytes_that_are_not_a_conversation_are_refused(value: bytes | None, reason: Reason) -> None:
    assert refused(value).reason is reason


@pytest.mark.parametrize(
    ("changes", "reason", "field"),
    [
        ({"messages": []}, Reason.WRONG_SHAPE, "messages"),
        ({"messages": None}, Reason.WRONG_SHAPE, "messages"),
        ({"messages": [{"role": "system", "content": "x"}]}, Reason.NO_TEXT, "messages"),
        ({"messages": [{"role": "user", "content": True}]}, Reason.NO_TEXT, "messages"),
        ({"sessionId": None}, Reason.WRONG_SHAPE, "sessionId"),
        ({"sessionId": ""}, Reason.WRONG_SHAPE, "sessionId"),
        ({"sessionId": "a\nb"}, Reason.WRONG_SHAPE, "sessionId"),
        ({"sessionId": "x" * 11}, Reason.WRONG_SHAPE, "sessionId"),
        ({"sessionId": "undefined"}, Reason.WRONG_SHAPE, "sessionId"),
        ({"metadata": {"tenant_id": "a:b"}}, Reason.WRONG_SHAPE, "metadata.tenant_id"),
    ],
)
def test_the_problem_of_each_field_is_reported(changes: dict[str, Any], reason: Reason, field: str) -> None:
    error = refused_body(body(**changes))
    assert error.reason is reason
    assert next(iter(error.details)) == field


def test_right_at_the_limits_it_is_read() -> None:
    turns = [{"role": "user", "content": "a" * 20}] * 3
    assert len(read(body(messages=turns, sessionId="x" * 10, fingerprint="y" * 10)).messages) == 3


def test_a_refusal_never_quotes_the_input() -> None:
    error = refused_body(body(messages=[{"role": "hacker", "content": "555-0100"}], sessionId=["555-0101"]))
    shown = f"{error} {error.details}"
    assert "hacker" not in shown
    assert "555" not in shown


def test_half_an_emoji_is_read_as_a_replacement_character() -> None:
    """JavaScript cuts strings by length, and JSON.stringify escapes the remaining half."""
    value = rb'{"messages":[{"role":"user","content":"\ud83d \\ud83d \ud83d\ude00 \uDC00x"}],"sessionId":"s"}'
    assert decode(value, Limits()).messages[0].content == "\N{REPLACEMENT CHARACTER} \\ud83d \N{GRINNING FACE} \ufffdx"


def test_a_byte_order_mark_is_ignored() -> None:
    assert decode(b"\xef\xbb\xbf" + json.dumps(body()).encode(), LIMITS).session_id == "s-1"


@pytest.mark.parametrize("value", [rb'{"a": "\ud83d"', rb'{"a": "\ud83"}', b'{"a": "\xed\xa0\xbd"}', b"\xef\xbb\xbf"])
def test_other_faults_are_still_not_json(value: bytes) -> None:
    assert refused(value).reason is Reason.NOT_JSON


@given(st.text(st.characters(categories=["L", "Cs", "So"]) | st.sampled_from('\\"ud8'), max_size=15))
def test_any_javascript_string_is_read(content: str) -> None:
    turn = {"role": "user", "content": content}
    kept = content.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    assume(kept.strip())
    assert decode(json.dumps(body(messages=[turn])).encode(), LIMITS).messages[0].content == kept


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(value: bytes) -> None:
    try:
        read_bytes = decode(value, LIMITS)
    except DecodeError:
        return
    assert read_bytes.messages


# Hashes and digests of snapshots


def test_the_digest_depends_on_where_a_turn_ends() -> None:
    turns = [[("ab"), ("c")], [("a"), ("bc")]]
    bodies = [body(messages=[{"role": "user", "content": text} for text in texts]) for texts in turns]
    assert len({digest(read(one)) for one in bodies}) == 2


def test_the_digest_is_over_turns_consent_and_tenant_and_nothing_else() -> None:
    same = read(body(fingerprint="f", metadata={"url": "https://example.com/", "enqueuedAt": "2026-01-15T12:00:00Z"}))
    assert digest(same) == digest(read(body()))
    others = [
        body(metadata={"consent": False}),
        body(metadata={"consent": True}),
        body(metadata={"tenant_id": "acme"}),
        body(messages=[{"role": "assistant", "content": "hola"}]),
        body(messages=[{"role": "user", "content": "hola "}]),
    ]
    assert len({digest(read(other)) for other in [body(), *others]}) == len(others) + 1
