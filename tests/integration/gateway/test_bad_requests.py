"""Bytes that are no request, or one that aiohttp refuses before a handler runs: JSON with a code, never a 5xx."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from typing import Any

import orjson
import pytest

from nexus_stream.contracts.refusal_codes import RefusalCode

_HOST = b"Host: www.example.com\r\n"
_POST = b"POST /api/nexus/producer HTTP/1.1\r\n" + _HOST
_BODY = b'{"messages":[{"role":"user","content":"Hola"}],"sessionId":"s"}'
_LENGTH = b"Content-Length: %d\r\n" % len(_BODY)
_GOOD = _POST + _LENGTH + b"\r\n" + _BODY


async def answered(
    port: int, sent: bytes, *, rest: bytes = b"", seconds: float = 20
) -> tuple[int, dict[str, str], Any]:
    """Send bytes, the rest a moment later, and return the answer: status, headers, JSON.

    Raises:
        TimeoutError: no answer, as for a request whose head does not end.
        ConnectionError: the gateway closed the connection instead.
    """
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(sent)
        if rest:
            await asyncio.sleep(0.1)
            writer.write(rest)
        async with asyncio.timeout(seconds):
            head = await reader.readuntil(b"\r\n\r\n")
            while head.startswith(b"HTTP/1.1 100 "):
                head = await reader.readuntil(b"\r\n\r\n")
            first, *lines = head.decode().strip().split("\r\n")
            headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
            body = await reader.readexactly(int(headers["content-length"]))
    except asyncio.IncompleteReadError as error:
        raise ConnectionError from error
    finally:
        writer.close()
    return int(first.split()[1]), headers, orjson.loads(body)


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", RefusalCode.REQUEST_MALFORMED),
        (b"nonsense\r\n\r\n", RefusalCode.REQUEST_MALFORMED),
        (b"POST /api/nexus/producer HTTP/9.9\r\n" + _HOST + b"\r\n", RefusalCode.REQUEST_MALFORMED),
        (b"PO ST /api/nexus/producer HTTP/1.1\r\n\r\n", RefusalCode.REQUEST_MALFORMED),
        (b"POST http://[::1 HTTP/1.1\r\n" + _HOST + b"\r\n", RefusalCode.REQUEST_MALFORMED),
        (_POST + b"Content-Length: many\r\n\r\n", RefusalCode.REQUEST_MALFORMED),
        (_POST + b"Content-Length: -1\r\n\r\n", RefusalCode.REQUEST_MALFORMED),
        (_POST + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n", RefusalCode.REQUEST_MALFORMED),
        (_POST + _LENGTH + b"Transfer-Encoding: chunked\r\n\r\n" + _BODY, RefusalCode.REQUEST_MALFORMED),
        (_POST + b"no colon\r\n\r\n", RefusalCode.REQUEST_MALFORMED),
        (_POST + b": no name\r\n\r\n", RefusalCode.REQUEST_MALFORMED),
        (_POST + b"x-a: \x00\r\n\r\n", RefusalCode.REQUEST_MALFORMED),
        (_POST + b"x a: b\r\n\r\n", RefusalCode.REQUEST_MALFORMED),
        (_POST + b"x-a: " + b"a" * 20_000 + b"\r\n\r\n", RefusalCode.HEADERS_TOO_LARGE),
        (b"POST /" + b"a" * 20_000 + b" HTTP/1.1\r\n" + _HOST + b"\r\n", RefusalCode.HEADERS_TOO_LARGE),
        (_POST + _LENGTH + b"Expect: 200-maybe\r\n\r\n" + _BODY, RefusalCode.EXPECTATION_FAILED),
        (b"POST /none HTTP/1.1\r\n" + _HOST + b"Expect: x\r\n\r\n", RefusalCode.EXPECTATION_FAILED),
        (_POST + b"Transfer-Encoding: chunked\r\n\r\nZZ\r\n{}\r\n0\r\n\r\n", RefusalCode.REQUEST_MALFORMED),
        (b"CONNECT www.example.com:443 HTTP/1.1\r\n" + _HOST + b"\r\n", RefusalCode.NOT_FOUND),
        (b"OPTIONS * HTTP/1.1\r\n" + _HOST + b"\r\n", RefusalCode.NOT_FOUND),
        (b"GET /../../etc/passwd HTTP/1.1\r\n" + _HOST + b"\r\n", RefusalCode.NOT_FOUND),
        (b"GET /%00%ff%zz HTTP/1.1\r\n" + _HOST + b"\r\n", RefusalCode.NOT_FOUND),
        (b"DELETE /api/nexus/producer HTTP/1.1\r\n" + _HOST + b"\r\n", RefusalCode.METHOD_NOT_ALLOWED),
        (b"PROPFIND /ready HTTP/1.1\r\n" + _HOST + b"\r\n", RefusalCode.METHOD_NOT_ALLOWED),
    ],
    ids=range(24),
)
async def test_it_is_refused_with_its_code(gateway, sent: bytes, code: RefusalCode) -> None:
    status, headers, answer = await answered(gateway.port, sent)
    assert (status, answer["code"]) == (code.status, str(code))
    assert set(answer) == {"error", "code"}
    assert headers["content-type"] == "application/json; charset=utf-8"
    assert headers["server"] == "nexus-stream"
    assert headers["cache-control"] == "no-cache"
    # aiohttp's own texts quote the request.
    assert "aaaa" not in answer["error"]
    assert "nonsense" not in answer["error"]


@pytest.mark.parametrize(
    "rest", [b"ZZ\r\n{}\r\n0\r\n\r\n", b"1\r\n{}\r\n0\r\n\r\n", b"-1\r\n\r\n", b"\xff" * 100], ids=range(4)
)
async def test_a_body_that_is_wrongly_encoded_ends_with_its_time(start_gateway, topic, rest: bytes) -> None:
    """aiohttp reports the fault as a next request, and the body's own end never comes."""
    gateway = await start_gateway(topic, body_timeout_seconds=0.5)
    status, _, answer = await answered(gateway.port, _POST + b"Transfer-Encoding: chunked\r\n\r\n", rest=rest)
    assert (status, answer["code"]) == (408, "body_timeout")


async def test_a_good_request_is_not_disturbed(gateway) -> None:
    assert (await answered(gateway.port, _GOOD))[0] == 202
    expecting = _POST + _LENGTH + b"Expect: 100-continue\r\n\r\n" + _BODY
    assert (await answered(gateway.port, expecting))[0] == 202
    # aiohttp drops what came in one packet with bytes that are no request: no 202, so nothing was promised.
    assert (await answered(gateway.port, _GOOD + b"nonsense\r\n\r\n"))[0] == 400
    upgrade = _POST + _LENGTH + b"Connection: Upgrade\r\nUpgrade: h2c\r\n\r\n" + _BODY
    assert (await answered(gateway.port, upgrade))[0] < 500


async def test_two_thousand_damaged_requests(start_gateway, topic) -> None:
    gateway = await start_gateway(topic, body_timeout_seconds=0.5)
    await gateway.wait_for_health(200)
    chance = random.Random(12)  # noqa: S311 - which bytes are damaged

    def damaged() -> bytes:
        sent = bytearray(_POST + b"Content-Type: application/json\r\nx-tenant-id: acme\r\n" + _LENGTH + b"\r\n" + _BODY)
        for _ in range(chance.randint(1, 4)):
            place = chance.randrange(len(sent))
            match chance.randrange(3):
                case 0:
                    sent[place] = chance.randrange(256)
                case 1:
                    del sent[place : place + chance.randint(1, 20)]
                case _:
                    sent[place:place] = chance.randbytes(chance.randint(1, 20))
        return bytes(sent)

    at_once = asyncio.Semaphore(50)
    statuses: Counter[int] = Counter()

    async def one() -> None:
        sent = damaged()
        async with at_once:
            try:
                status, _, answer = await answered(gateway.port, sent, seconds=2)
            except (TimeoutError, ConnectionError):
                # The head or the length is damaged: the gateway waits for the rest.
                status = 0
        statuses[status] += 1
        assert status < 500, sent
        if status >= 400:
            assert RefusalCode(answer["code"]).status == status, sent

    await asyncio.gather(*[one() for _ in range(2000)])
    assert statuses[400] > 500, statuses
    assert statuses[0] < 500, statuses
    assert (await answered(gateway.port, _GOOD))[0] == 202
