"""Bad input of every kind: JSON with ``error`` and ``code``, never a 5xx, and nothing unreadable on the topic."""

import asyncio
import itertools
import json
import time
from collections import Counter
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from nexus_stream.contracts.conversation import Limits, decode
from nexus_stream.contracts.refusal_codes import RefusalCode
from nexus_stream.contracts.session_key import session_key
from tests.bodies import mutated_bodies

_ALLOWED = {202, 400, 408, 413, 415}
_MAX_SECONDS = 9.0

_GOOD: dict[str, Any] = {
    "messages": [{"role": "user", "content": "Hola"}],
    "sessionId": "s",
    "fingerprint": "f",
    "metadata": {"url": "https://www.example.com/", "consent": True},
}
# Each value replaces each field: raw JSON text, so that it can hold values that no encoder writes.
_RAW_VALUES = [
    *("null", "true", "false", "0", "-1", "1.5", "1e308", "1e309", "-1e309", "1" + "0" * 400, "NaN", "Infinity"),
    *('""', '" "', '"\\u0000"', '"\\ud800"', '"\\udc00x"', '"\\ud83d\\ude00"', '"\\x"', '"\n"', '"a\tb"', '"\x7f"'),
    *("[]", "[[]]", "{}", '{"":""}', '[{"role":"user"}]', "[null]", '{"a":1,"a":2}', '"' + "x" * 9000 + '"'),
    *("[" * 250 + "]" * 250, '{"a":' * 250 + "1" + "}" * 250, "[" * 2000, "undefined", "'x'", "", "{", "01", "+1"),
    *('"session:x"', '"$where"', '"\'; drop table x; --"', '"<script>"', '"\\"}],"', '"\u202e"', '"\ufeff"', '"\xe9"'),
]
_FIELDS = ["$", "messages", "messages.0", "role", "content", "sessionId", "fingerprint", "metadata", "url", "consent"]


def _with_field(field: str, raw: str) -> bytes:
    if field == "$":
        return raw.encode("utf-8", "surrogatepass")
    marker = "\N{SNOWMAN}"
    value = json.loads(json.dumps(_GOOD))
    match field:
        case "messages.0":
            value["messages"] = [marker]
        case "role" | "content":
            value["messages"][0][field] = marker
        case "url" | "consent":
            value["metadata"][field] = marker
        case _:
            value[field] = marker
    text = json.dumps(value, ensure_ascii=False).replace(f'"{marker}"', raw)
    return text.encode("utf-8", "surrogatepass")


_GOOD_BYTES = json.dumps(_GOOD).encode()
_BYTES = [
    *(_GOOD_BYTES.decode().encode(encoding) for encoding in ("utf-16", "utf-16-le", "utf-32", "utf-7", "cp037")),
    *(b"\xef\xbb\xbf" + _GOOD_BYTES, b"\xff\xfe" + _GOOD_BYTES, b"\x00" * 100, _GOOD_BYTES + b"\x00", b"\x1f\x8b\x08"),
    *(_GOOD_BYTES[:cut] for cut in range(0, len(_GOOD_BYTES), 7)),
    *(_GOOD_BYTES * 2, b" " * 200_000, b"[" * 200_000, b'"' * 1001, b"9" * 100_000, b"\xed\xa0\x80", b'{"a":"\xff"}'),
    *(_GOOD_BYTES.replace(b"Hola", b"\xc3\x28"), _GOOD_BYTES.replace(b"Hola", b"\xf0\x9f\x98"), b"a=b&c=d", b"<x/>"),
    b'{"messages":[' + b",".join([b'{"role":"user","content":""}'] * 5000) + b'],"sessionId":"s"}',
    b"{" + b",".join(b'"k%d":%d' % (n, n) for n in range(10_000)) + b"}",
    b"{" + b'"messages":1,' * 10_000 + b'"sessionId":"s"}',
]
_KINDS = [(f"{field}={raw[:20]}", _with_field(field, raw)) for field, raw in itertools.product(_FIELDS, _RAW_VALUES)]
_KINDS += [(f"bytes-{number}", body) for number, body in enumerate(_BYTES)]


async def _check(gateway, body: bytes, headers: dict[str, str] | None = None) -> int:
    started = time.monotonic()
    async with gateway.session.post(
        gateway.url, data=body, headers={"Content-Type": "application/json", **(headers or {})}
    ) as response:
        text = await response.read()
    assert time.monotonic() - started < _MAX_SECONDS
    assert response.status in _ALLOWED, (response.status, text)
    assert response.content_type == "application/json"
    answer = orjson.loads(text)
    if response.status != 202:
        assert isinstance(answer["error"], str)
        assert answer["error"]
        assert set(answer) <= {"error", "code", "details"}
        assert RefusalCode(answer["code"]).status == response.status
        assert all(isinstance(problem, str) for problem in answer.get("details", {}).values())
        assert len(text) < 4096
    return response.status


async def test_each_field_with_each_wrong_value(gateway, topic) -> None:
    assert len({body for _, body in _KINDS}) > 400
    accepted = 0
    refused = 0
    for name, body in _KINDS:
        try:
            status = await _check(gateway, body)
        except AssertionError as error:
            raise AssertionError(f"{name}: {error}") from error
        accepted += status == 202
        refused += status != 202
    assert refused > 250
    # What was accepted, the enricher can read.
    records = await topic.records()
    assert len(records) == accepted
    for record in records:
        assert decode(record.value, Limits()).key == record.key


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Type": value}
        for value in (
            *(
                "application/json;",
                "application/json; charset=",
                "application/json; charset=\xff",
                "json",
                "/",
                ";",
                "*/*",
            ),
            *(
                "application/json; charset=utf-16",
                "text/plain; boundary=x; charset=klingon",
                "application/jsonx",
                "+json",
            ),
            *("application/json, text/plain", 'application/json; charset="utf-8', "a" * 5000, "multipart/form-data"),
        )
    ]
    + [
        {name: value}
        for name in ("x-tenant-id", "Referer", "User-Agent", "Origin", "X-Forwarded-For", "Content-Encoding")
        for value in ("", " ", "\xff\xfe", "a" * 5000, "'; --", "a,b,,c", "\x85", "𝕏")
    ],
)
async def test_strange_headers(gateway, headers: dict[str, str]) -> None:
    await _check(gateway, _GOOD_BYTES, headers)
    await _check(gateway, b"{", headers)


@settings(
    max_examples=400,
    deadline=None,
    # The gateway and its topic are meant to be shared by all examples.
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(body=mutated_bodies() | st.binary(max_size=200))
async def test_any_body(gateway, body: bytes) -> None:
    await _check(gateway, body)


def _generated(count: int) -> list[bytes]:
    bodies: list[bytes] = []
    # Many a draw: 10,000 draws of one are repeats for the most part.
    size = 50

    @settings(
        max_examples=count // size,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=[*HealthCheck],
    )
    @given(drawn=st.lists(mutated_bodies() | st.binary(max_size=200), min_size=size, max_size=size))
    def collect(drawn: list[bytes]) -> None:
        bodies.extend(drawn)

    collect()
    return bodies


async def test_ten_thousand_generated_bodies_touch_no_other_session(gateway, topic) -> None:
    bodies = _generated(10_000)
    assert len(bodies) >= 10_000
    at_once = asyncio.Semaphore(20)

    async def one(body: bytes) -> int:
        async with at_once:
            return await _check(gateway, body)

    statuses = Counter(await asyncio.gather(*[one(body) for body in bodies]))
    # What is generated also follows the constants in the project's code, and so do these numbers.
    assert statuses[202] > 250, statuses
    assert statuses[400] > 250, statuses
    records = await topic.records()
    assert len(records) == statuses[202]
    for record in records:
        # The key is the body's own session, and the tenant is never the body's.
        value = orjson.loads(record.value)
        assert record.key == session_key("", decode(record.value, Limits()).session_id)
        assert "tenant_id" not in value["metadata"]


async def test_bad_requests_do_not_delay_good_ones(gateway, topic) -> None:
    async def bad(number: int) -> None:
        await _check(gateway, _KINDS[number % len(_KINDS)][1])

    noise = asyncio.gather(*[bad(number) for number in range(200)])
    started = time.monotonic()
    assert await _check(gateway, _GOOD_BYTES.replace(b'"s"', b'"good"')) == 202
    assert time.monotonic() - started < _MAX_SECONDS
    await noise
    assert b"good" in {record.key for record in await topic.records()}
