"""The inputs of real sites, posted over HTTP to the application with a publisher in memory."""

from __future__ import annotations

import io
import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson
import pytest
from aiohttp.test_utils import TestClient, TestServer
from aiokafka.structs import RecordMetadata, TopicPartition
from hypothesis import given, settings
from hypothesis import strategies as st

from nexus_stream.contracts.conversation import decode
from nexus_stream.contracts.limits import Limits, enricher_limits
from nexus_stream.contracts.refusal_codes import RefusalCode
from nexus_stream.gateway.app import GATEWAY, PRODUCER_PATH, create_app
from nexus_stream.gateway.record import RequestContext, ingestion_record
from nexus_stream.gateway.refusal import RequestRefusedError
from nexus_stream.settings import Settings
from tests.bodies import mutated_bodies

CARLOS = "Hola, me llamo Carlos Rojas y mi celular es 300 555 0102"


@dataclass
class _Kept:
    """A publisher that keeps what it is given."""

    records: list[tuple[bytes, bytes]] = field(default_factory=list)
    connected: bool = True
    problem: str = ""

    async def publish(self, value: bytes, key: bytes, headers: Sequence[tuple[str, bytes]]) -> RecordMetadata:
        self.records.append((key, value))
        place = TopicPartition("nexus-prospect-ingestion", 0)
        return RecordMetadata(place.topic, 0, place, len(self.records) - 1, 0, 0, 0)


@dataclass
class _Door:
    client: TestClient[Any, Any]
    kept: _Kept

    async def post(self, body: Any) -> tuple[int, dict[str, Any]]:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"}
        answer = await self.client.post(PRODUCER_PATH, data=io.BytesIO(data), headers=headers)
        return answer.status, await answer.json()

    async def accepted(self, body: Any) -> dict[str, Any]:
        """Post, expect 202, and return the record's value; the enricher must read it as it is."""
        status, answer = await self.post(body)
        assert status == 202, answer
        key, value = self.kept.records[-1]
        conversation = decode(value, enricher_limits(Settings()))
        record: dict[str, Any] = orjson.loads(value)
        assert conversation.key == key
        assert [turn.model_dump() for turn in conversation.messages] == [
            {name: text for name, text in turn.items() if name != "timestamp"} for turn in record["messages"]
        ]
        return record


@pytest.fixture
async def door() -> AsyncIterator[_Door]:
    kept = _Kept()
    app = create_app(Settings(gateway_requests_per_minute=100_000), kept)
    async with TestClient(TestServer(app)) as client:
        yield _Door(client, kept)


def _body(*messages: Any, **fields: Any) -> dict[str, Any]:
    return {"messages": list(messages), "sessionId": "s-1", **fields}


def _user(content: Any) -> dict[str, Any]:
    return {"role": "user", "content": content}


async def test_a_placeholder_as_fingerprint_is_dropped_and_counted(door: _Door) -> None:
    """front_door.md, case 3."""
    record = await door.accepted(_body(_user(CARLOS), fingerprint="undefined"))
    assert "fingerprint" not in record
    await door.accepted(_body(_user("Hola"), fingerprint={}))
    assert door.client.app is not None
    assert door.client.app[GATEWAY].facts.ignored == {("fingerprint", "placeholder"): 2}


async def test_a_placeholder_as_session_is_refused_and_counted(door: _Door) -> None:
    status, answer = await door.post(_body(_user(CARLOS), sessionId="undefined"))
    assert (status, answer["code"], list(answer["details"])) == (400, "session_id_placeholder", ["sessionId"])
    assert door.kept.records == []
    assert door.client.app is not None
    assert door.client.app[GATEWAY].facts.ignored == {("session_id", "placeholder"): 1}


async def test_a_body_of_use_chat(door: _Door) -> None:
    """front_door.md, case 5, as the AI SDK's DefaultChatTransport posts it."""
    record = await door.accepted(
        {
            "id": "vK3xW8",
            "trigger": "submit-message",
            "messages": [
                {"role": "system", "content": "You sell plans"},
                {"id": "m1", "role": "user", "parts": [{"type": "text", "text": "Que planes hay?"}]},
                {
                    "id": "m2",
                    "role": "assistant",
                    "parts": [
                        {"type": "step-start"},
                        {"type": "tool-plans", "state": "output-available", "output": {"plans": ["x" * 5000]}},
                        {"type": "text", "text": "Hay tres."},
                    ],
                },
                {
                    "id": "m3",
                    "role": "user",
                    "parts": [
                        {"type": "file", "url": "data:image/png;base64," + "A" * 900_000},
                        {"type": "text", "text": CARLOS},
                    ],
                },
            ],
        }
    )
    assert record["sessionId"] == "vK3xW8"
    assert record["messages"] == [
        _user("Que planes hay?"),
        {"role": "assistant", "content": "Hay tres."},
        _user(CARLOS),
    ]
    assert record["metadata"]["leftOut"] == {"system": 1, "tool": 1, "file": 1}
    assert len(door.kept.records[-1][1]) < 2000


async def test_numbers_as_ids(door: _Door) -> None:
    """front_door.md, case 7."""
    record = await door.accepted(_body(_user(CARLOS), sessionId=1768478400123, fingerprint=1768478400, metadata=[]))
    assert (record["sessionId"], record["fingerprint"]) == ("1768478400123", "1768478400")
    assert door.kept.records[-1][0] == b"1768478400123"


async def test_one_long_turn_is_cut_and_the_record_says_so(door: _Door) -> None:
    """front_door.md, case 6."""
    answer = {"role": "assistant", "content": "x" * 9000}
    record = await door.accepted(_body(_user("Que planes hay?"), answer, _user(CARLOS)))
    assert [len(turn["content"]) for turn in record["messages"]] == [15, 8000, len(CARLOS)]
    assert record["metadata"]["cut"] == {"turns": 0, "characters": 1000, "until": 0}


async def test_a_history_that_only_old_turns_make_large_is_cut_to_the_records_limit(door: _Door) -> None:
    turns = [
        {"role": "assistant" if number % 2 else "user", "content": f"{number} " + "ñ" * 1500} for number in range(180)
    ]
    record = await door.accepted(_body(*turns, _user(CARLOS), metadata={"consent": True}))
    assert len(door.kept.records[-1][1]) <= Settings().max_body_bytes
    assert record["messages"][-1] == _user(CARLOS)
    assert record["metadata"]["cut"]["turns"] == 181 - len(record["messages"])
    assert record["metadata"]["consent"] is True
    again = await door.accepted(_body(*turns, _user(CARLOS), metadata={"consent": True, "utm": "x" * 1000}))
    # A few bytes of metadata do not move the cut, so the snapshots compare.
    assert again["messages"] == record["messages"]


async def test_one_turn_larger_than_a_record_is_shortened() -> None:
    limits = Limits(body_bytes=2048, wire_bytes=100_000)
    body = json.dumps(_body(_user("\x01" * 8000))).encode()
    record = ingestion_record(body, RequestContext("t", "v"), limits)
    assert len(record.value) <= 2048
    assert orjson.loads(record.value)["messages"][0]["content"].startswith("\x01\x01")


async def test_a_message_keeps_its_time_if_it_is_small(door: _Door) -> None:
    turns = [
        {**_user("a"), "timestamp": "2026-01-15T12:00:00Z"},
        {**_user("b"), "timestamp": 1768478400123},
        {**_user("c"), "timestamp": "x" * 65},
        {**_user("d"), "timestamp": {"seconds": 1}},
        {**_user("e"), "timestamp": True},
    ]
    record = await door.accepted(_body(*turns))
    assert [turn.get("timestamp") for turn in record["messages"]] == [
        "2026-01-15T12:00:00Z",
        1768478400123,
        None,
        None,
        None,
    ]


async def test_what_only_the_gateway_may_say_is_dropped(door: _Door) -> None:
    said = {
        "identityProven": True,
        "identity_proven": True,
        "cut": {"turns": 5, "characters": 1, "until": 1},
        "leftOut": {"system": 4},
        "tenant_id": "victim",
    }
    record = await door.accepted(
        _body(_user("a"), metadata={**said, "identity": "u-17", **{f"k{n}": n for n in range(80)}})
    )
    assert not {"cut", "leftOut", "tenant_id"} & record["metadata"].keys()
    assert record["metadata"]["identityProven"] is False
    conversation = decode(door.kept.records[-1][1], Limits())
    assert (conversation.metadata.identity, conversation.metadata.identity_proven) == ("u-17", False)
    assert conversation.cut is None


async def test_large_keys_beside_the_messages_are_dropped(door: _Door) -> None:
    record = await door.accepted(
        _body(_user("a"), trace="x" * 100_000, page="pricing", **{f"k{n}": n for n in range(80)})
    )
    assert "trace" not in record
    assert record["page"] == "pricing"
    assert sum(key.startswith("k") for key in record) < 50


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"{", 400, "body_not_json"),
        (b"[]", 400, "body_not_object"),
        (b'{"a":' + b"[" * 5000, 400, "body_too_deep"),
        (_body(_user("a"), sessionId=None), 400, "session_id_required"),
        (_body(_user("a"), sessionId="x" * 300), 400, "session_id_too_long"),
        (_body(_user("a"), sessionId=["x"]), 400, "session_id_invalid"),
        (_body(_user("a"), metadata={"consent": "perhaps"}), 400, "conversation_invalid"),
        ({"sessionId": "s"}, 400, "messages_required"),
        (_body(), 400, "messages_required"),
        (_body(_user(None)), 400, "no_text"),
        (_body(*[{}] * 100_001), 400, "too_many_elements"),
        (b" " * 2_100_000, 413, "body_too_large"),
    ],
)
async def test_each_refusal_has_its_code(door: _Door, body: Any, status: int, code: str) -> None:
    found, answer = await door.post(body)
    assert (found, answer["code"]) == (status, code)
    assert door.kept.records == []


@settings(deadline=None)
@given(mutated_bodies() | st.binary(max_size=200))
def test_any_body_is_accepted_or_refused_with_a_known_code(body: bytes) -> None:
    try:
        record = ingestion_record(body, RequestContext("2026-01-15T12:00:00Z", "v"), Limits())
    except RequestRefusedError as refusal:
        status, code = refusal.status, refusal.code
    else:
        status, code = 400, "no_text"
        assert decode(record.value, Limits()).key == record.key
    assert status in {400, 413}
    assert code in set(RefusalCode)
