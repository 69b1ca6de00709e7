"""Every form of message that sites send, read by `read`, as the enricher does."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexus_stream.contracts.conversation import Conversation, decode, read
from nexus_stream.contracts.limits import Limits
from nexus_stream.contracts.message_forms import LEFT_OUT_KINDS, PlainTurn, read_turns
from nexus_stream.contracts.refusal_codes import RefusalCode
from nexus_stream.errors import DecodeError, Reason

HOLA = "Hola, me llamo Carlos Rojas"
LIMITS = Limits()


def body(*messages: Any, **fields: Any) -> bytes:
    return json.dumps({"messages": messages, "sessionId": "s-1", **fields}).encode()


def turns(*messages: Any) -> list[tuple[str, str]]:
    return [(turn.role, turn.content) for turn in decode(body(*messages), LIMITS).messages]


def text(content: str, type_: str = "text") -> dict[str, str]:
    return {"type": type_, "text": content}


@pytest.mark.parametrize(
    "message",
    [
        {"role": "user", "content": HOLA},
        {"id": "m1", "role": "user", "parts": [text(HOLA)]},
        {"role": "user", "content": [text(HOLA)]},
        {"role": "user", "content": [text(HOLA, "input_text")]},
        {"role": "user", "content": [HOLA]},
        {"role": "user", "content": HOLA, "parts": [text(HOLA)]},
        {"role": "user", "content": "", "parts": [text(HOLA)]},
        {"role": "user", "content": None, "text": HOLA},
        {"role": "user", "content": {"text": HOLA}},
        {"role": "user", "content": {"type": "text", "value": HOLA}},
        {"role": "user", "content": [{"type": "text", "text": {"value": HOLA, "annotations": []}}]},
        {"role": "user", "parts": [{"type": "text", "content": HOLA}]},
        {"role": "user", "parts": [{"text": HOLA}]},
        {"type": "message", "role": "user", "content": [text(HOLA, "input_text")]},
        {"type": "human", "content": HOLA},
        {"type": "human", "data": {"content": HOLA}},
        {"type": "HumanMessage", "content": [text(HOLA)]},
        {
            "lc": 1,
            "type": "constructor",
            "id": ["langchain_core", "messages", "HumanMessage"],
            "kwargs": {"content": HOLA},
        },
        {"role": "USER", "message": HOLA},
        {"participantRole": "END_USER", "content": HOLA},
        {"event": "user", "text": HOLA},
        {"direction": "incoming", "type": "text", "payload": {"type": "text", "text": HOLA}},
        {"sender": "visitor", "text": HOLA},
        {"author": {"role": "user"}, "content": {"content_type": "text", "parts": [HOLA]}},
        {"role": " Human ", "content": HOLA},
        {"role": "end-user", "content": HOLA},
    ],
)
def test_a_turn_of_the_user_in_each_form(message: dict[str, Any]) -> None:
    assert turns(message) == [("user", HOLA)]


@pytest.mark.parametrize(
    "speaker",
    [{"role": role} for role in ("assistant", "ai", "AI", "bot", "model", "MODEL", "CHATBOT", "agent", "HUMAN_AGENT")]
    + [{"type": "ai"}, {"type": "AIMessageChunk"}, {"event": "bot"}, {"direction": "outgoing"}],
)
def test_a_turn_of_the_assistant_in_each_form(speaker: dict[str, str]) -> None:
    assert turns({"role": "user", "content": "a"}, {**speaker, "content": "b"}) == [("user", "a"), ("assistant", "b")]


def test_text_parts_are_joined_and_other_parts_are_counted() -> None:
    parts = [
        {"type": "step-start"},
        text("Hola"),
        {"type": "reasoning", "text": "the user greets"},
        {"type": "file", "mediaType": "image/png", "url": "data:image/png;base64,AAAA"},
        {"type": "tool-getPlans", "toolCallId": "1", "state": "output-available", "output": {"text": "secret"}},
        {"type": "dynamic-tool", "toolName": "x"},
        {"type": "source-url", "url": "https://www.example.com/"},
        {"type": "data-weather", "data": {"text": "sunny"}},
        {"type": "image_url", "image_url": {"url": "x"}},
        {"type": "input_audio", "input_audio": {}},
        {"type": "hologram", "text": "no"},
        text("  "),
        text("soy Carlos"),
    ]
    conversation, noticed = read(body({"role": "user", "parts": parts}), LIMITS)
    assert [turn.content for turn in conversation.messages] == ["Hola\nsoy Carlos"]
    counts = {"reasoning": 1, "file": 1, "tool": 2, "source": 1, "data": 1, "image": 1, "audio": 1, "other": 1}
    assert conversation.left_out == counts
    assert noticed is not None
    assert noticed.left_out == counts


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        ({"role": "system", "content": "You sell plans"}, "system"),
        ({"role": "developer", "content": "You sell plans"}, "system"),
        ({"role": "tool", "tool_call_id": "c", "content": "300 555 0199"}, "tool"),
        ({"role": "function", "name": "f", "content": "300 555 0199"}, "tool"),
        ({"role": "data", "content": "x"}, "data"),
        ({"role": "moderator", "content": "x"}, "other"),
        ({"role": "assistant", "content": None, "tool_calls": [{"id": "c", "type": "function"}]}, "tool"),
        ({"role": "assistant", "content": "", "toolInvocations": [{"state": "call"}]}, "tool"),
        ({"role": "assistant", "content": [{"type": "tool_use", "id": "t", "name": "n", "input": {}}]}, "tool"),
        ({"role": "user", "content": [{"type": "tool_result", "content": "300 555 0199"}]}, "tool"),
        ({"role": "model", "parts": [{"functionCall": {"name": "n"}}]}, "tool"),
        ({"type": "function_call", "name": "n", "arguments": "{}"}, "tool"),
        ({"type": "web_search_call", "status": "completed"}, "tool"),
        ({"type": "reasoning", "summary": [{"type": "summary_text", "text": "x"}]}, "reasoning"),
        ({"role": "assistant", "content": None}, "empty"),
        ({"role": "assistant", "content": {}}, "empty"),
        ({"role": "user", "content": []}, "empty"),
        ({"role": "user"}, "empty"),
        ({"role": "user", "content": "  \n"}, "empty"),
        ({"content": "who said it?"}, "other"),
        ("text", "other"),
        (None, "other"),
        ([], "other"),
    ],
)
def test_what_is_no_turn_with_text_is_left_out_and_counted(message: object, kind: str) -> None:
    conversation, _ = read(body(message, {"role": "user", "content": HOLA}), LIMITS)
    assert [(turn.role, turn.content) for turn in conversation.messages] == [("user", HOLA)]
    assert conversation.left_out == {kind: 1}


def test_the_count_of_the_gateway_and_of_the_enricher_add_up() -> None:
    value = body(
        {"role": "system", "content": "x"},
        {"role": "user", "content": HOLA},
        metadata={"leftOut": {"system": 2, "file": 1, "nonsense": 5, "tool": -1, "data": True}},
    )
    conversation, noticed = read(value, LIMITS)
    assert conversation.left_out == {"system": 3, "file": 1}
    assert noticed is not None
    assert noticed.left_out == {"system": 1}


@pytest.mark.parametrize(
    "messages",
    [
        [{"role": "system", "content": "x"}],
        [{"role": "user", "parts": [{"type": "file", "url": "x"}]}],
        [None, 7, "x", [], {}],
    ],
)
def test_without_any_text_there_is_nothing_to_read(messages: list[Any]) -> None:
    with pytest.raises(DecodeError) as caught:
        decode(body(*messages), LIMITS)
    assert (caught.value.reason, caught.value.code) == (Reason.NO_TEXT, RefusalCode.NO_TEXT)


@pytest.mark.parametrize(
    ("messages", "code"),
    [
        ([{}] * 100_001, "too_many_elements"),
        ([{"role": "user", "content": [{}] * 100_001}], "too_many_elements"),
        ([{"role": "user", "content": HOLA, "parts": [[]] * 410_000}], None),
        ([{"role": "user", "parts": [[]] * 410_000}], "too_many_elements"),
    ],
)
def test_the_count_of_elements_is_bounded(messages: list[Any], code: str | None) -> None:
    limits = Limits(wire_bytes=2_000_000)
    if code is None:
        # Plain turns: the parts are not even read.
        assert len(decode(body(*messages), limits).messages) == 1
        return
    with pytest.raises(DecodeError) as caught:
        decode(body(*messages), limits)
    assert caught.value.code == code


# Properties

_KEYS = "role type content parts text value message data payload kwargs id sender toolUse".split()  # noqa: SIM905
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda children: (
        st.lists(children, max_size=4)
        | st.dictionaries(st.sampled_from(_KEYS) | st.text(max_size=4), children, max_size=4)
    ),
    max_leaves=30,
)
_PLAIN = st.lists(
    st.fixed_dictionaries(
        {
            "role": st.sampled_from(["user", "assistant"]),
            "content": st.text(st.characters(codec="utf-8"), min_size=1, max_size=20).filter(str.strip),
        }
    ),
    min_size=1,
    max_size=5,
)


@given(st.lists(_JSON, max_size=5))
def test_any_messages_are_read_or_left_out(messages: list[Any]) -> None:
    left_out: Counter[str] = Counter()
    found = list(read_turns(messages, left_out))
    assert all(turn.role in {"user", "assistant"} and turn.content.strip() for turn in found)
    assert set(left_out) <= set(LEFT_OUT_KINDS)


@given(
    st.dictionaries(
        st.sampled_from(["messages", "sessionId", "session_id", "id", "fingerprint", "metadata"]),
        _JSON | st.lists(_JSON, max_size=3) | _PLAIN,
    )
    | _JSON
)
def test_any_json_is_read_or_refused_with_a_known_code(value: Any) -> None:
    try:
        conversation = decode(json.dumps(value).encode(), Limits(turns=3, turn_chars=10))
    except DecodeError as error:
        code = error.code
    else:
        code = RefusalCode.NO_TEXT
        assert 0 < len(conversation.messages) <= 3
        assert all(0 < len(turn.content) <= 10 for turn in conversation.messages)
    assert code in set(RefusalCode)


@given(_PLAIN)
def test_the_plain_form_comes_back_unchanged(messages: list[dict[str, str]]) -> None:
    left_out: Counter[str] = Counter()
    found = list(read_turns(messages, left_out))
    assert found == [PlainTurn(turn["role"], turn["content"]) for turn in messages]  # type: ignore[arg-type]
    assert not left_out
    conversation, noticed = read(body(*messages), LIMITS)
    assert [turn.model_dump() for turn in conversation.messages] == messages
    assert noticed is None


@given(_PLAIN)
def test_both_readers_agree_on_the_plain_form(messages: list[dict[str, str]]) -> None:
    """A message of another form makes the second reader read the whole conversation."""
    plain = decode(body(*messages), LIMITS)
    other = decode(body({"role": "system", "content": "x"}, *messages), LIMITS)
    assert other.messages == plain.messages
    assert isinstance(other, Conversation)


@pytest.mark.parametrize(
    ("message", "said"),
    [
        # PHP's JSON_NUMERIC_CHECK.
        ({"role": "user", "content": 3005550102}, ("user", "3005550102")),
        ({"role": "user", "content": [text(HOLA), 3005550102]}, ("user", f"{HOLA}\n3005550102")),
        ({"role": "user", "parts": [{"type": "text", "text": 3005550102.0}]}, ("user", "3005550102")),
        # PHP's array_filter leaves gaps, and then writes an object.
        ({"role": "user", "content": {"2": text("b"), "0": text("a"), "10": text("c")}}, ("user", "a\nb\nc")),
        # LlamaIndex, ShareGPT, Flowise.
        ({"role": "user", "blocks": [{"block_type": "text", "text": HOLA}]}, ("user", HOLA)),
        ({"from": "human", "value": HOLA}, ("user", HOLA)),
        ({"type": "apiMessage", "message": HOLA}, ("assistant", HOLA)),
        # chatscope speaks of the page, Botpress of the bot.
        ({"message": HOLA, "sender": "Carlos", "direction": "outgoing"}, ("user", HOLA)),
        ({"message": HOLA, "sender": "Ventas", "direction": "incoming"}, ("assistant", HOLA)),
        ({"payload": {"text": HOLA}, "direction": "outgoing"}, ("assistant", HOLA)),
        # The kind of a message that somebody sent does not hide who sent it.
        ({"type": "image", "sender": "user", "text": HOLA}, ("user", HOLA)),
        ({"role": "user", "content": [text(HOLA, "markdown")]}, ("user", HOLA)),
        ({"role": "user", "type": "constructor", "content": HOLA}, ("user", HOLA)),
    ],
)
def test_forms_that_a_review_found(message: dict[str, Any], said: tuple[str, str]) -> None:
    assert turns(message) == [said]


def test_geminis_thoughts_are_no_answer() -> None:
    thought = {"role": "model", "parts": [{"text": "He wants a plan", "thought": True}, {"text": HOLA}]}
    conversation = decode(body({"role": "user", "content": "hola"}, thought), LIMITS)
    assert [message.content for message in conversation.messages] == ["hola", HOLA]
    assert conversation.left_out == {"reasoning": 1}


def test_messages_as_php_writes_a_filtered_array() -> None:
    messages = {"10": {"role": "user", "content": "c"}, "2": {"role": "user", "content": "b"}, "0": None}
    value = json.dumps({"messages": messages, "sessionId": "s-1"}).encode()
    assert [message.content for message in decode(value, LIMITS).messages] == ["b", "c"]


def test_an_agents_long_chat_is_not_refused_for_its_parts() -> None:
    parts = [text(HOLA), *({"type": "data-step", "data": {}} for _ in range(99))]
    chat = [{"role": "user", "parts": [text(HOLA)]}, *({"role": "assistant", "parts": parts} for _ in range(202))]
    assert decode(body(*chat), Limits(wire_bytes=2_000_000)).messages[0].content == HOLA


@pytest.mark.parametrize(
    ("consent", "read_as"),
    [
        ("undefined", None),
        ("null", None),
        ("sí", True),
        ("Granted", True),
        ("denied", False),
        ("no", False),
        ({}, None),
    ],
)
def test_consent_in_words(consent: Any, read_as: bool | None) -> None:
    value = body({"role": "user", "content": HOLA}, metadata={"consent": consent})
    assert decode(value, LIMITS).metadata.consent is read_as
