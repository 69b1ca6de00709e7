"""Each status of a real gateway, compared with its OpenAPI document; keys, tenants and identities on the topic."""

from __future__ import annotations

import asyncio
import hmac
import io
import json
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest
from aiohttp import web
from jsonschema import Draft202012Validator
from prometheus_client import REGISTRY
from pydantic import SecretStr

from nexus_stream.gateway.app import create_app
from nexus_stream.gateway.protocol import GatewayRunner
from nexus_stream.gateway.server_keys import key_hash, new_key
from nexus_stream.host.free_ports import free_port
from nexus_stream.settings import load_settings

PUBLISHED = Path(__file__).parents[3] / "contracts" / "openapi.json"
DOCUMENT: dict[str, Any] = json.loads(PUBLISHED.read_text(encoding="utf-8"))
KEY = new_key()
SECRET = "a-secret-of-the-sites-server"
BODY: dict[str, Any] = {"messages": [{"role": "user", "content": "Hola"}], "sessionId": "s"}
KEYED = {"x-nexus-server-key": KEY}


def schema(path: str, method: str, status: int) -> dict[str, Any]:
    responses = DOCUMENT["paths"][path][method]["responses"]
    response = responses.get(str(status), responses["default"])
    if "$ref" in response:
        response = DOCUMENT["components"]["responses"][response["$ref"].rpartition("/")[2]]
    found: dict[str, Any] = response["content"]["application/json"]["schema"]
    return found


def assert_as_described(path: str, method: str, status: int, answer: Any) -> None:
    described = schema(path, method, status)
    Draft202012Validator({**described, "components": DOCUMENT["components"]}).validate(answer)
    if "$ref" in described:
        # A field that the document does not know would pass otherwise.
        properties = DOCUMENT["components"]["schemas"][described["$ref"].rpartition("/")[2]].get("properties")
        assert properties is None or set(answer) <= set(properties)


async def ask(
    gateway: Any, status: int, method: str = "POST", path: str = "/api/nexus/producer", **options: Any
) -> Any:
    headers = {"Content-Type": "application/json", **options.pop("headers", {})}
    async with gateway.session.request(method, gateway.base_url + path, headers=headers, **options) as response:
        answer = orjson.loads(await response.read())
        assert response.status == status, answer
        if status in {429, 503} and method == "POST":
            assert int(response.headers["Retry-After"]) >= 1
    described = path if path in DOCUMENT["paths"] else "/live"
    assert_as_described(described, method.lower() if method in {"GET", "POST"} else "post", status, answer)
    return answer


@pytest.fixture
async def keyed(start_gateway, topic) -> Any:
    running = await start_gateway(
        topic,
        body_timeout_seconds=1.0,
        gateway_requests_per_minute=40,
        gateway_server_keys={"web": SecretStr(key_hash(KEY))},
        gateway_identity_secrets={"web": SecretStr(SECRET)},
    )
    await running.wait_for_health(200)
    return running


async def test_the_gateway_serves_the_published_document(gateway) -> None:
    async with gateway.session.get(gateway.base_url + "/openapi.json") as response:
        assert response.content_type == "application/json"
        assert await response.text() == PUBLISHED.read_text(encoding="utf-8")


async def test_every_answer_is_as_described(keyed) -> None:
    assert (await ask(keyed, 202, json=BODY, headers=KEYED))["status"] == "accepted"
    assert (await ask(keyed, 400, data=b"{"))["code"] == "body_not_json"
    assert (await ask(keyed, 400, json={**BODY, "messages": [{"role": 7}]}))["details"]
    assert (await ask(keyed, 400, json=BODY, headers={**KEYED, "x-tenant-id": "a b"}))["code"] == "tenant_invalid"
    assert (await ask(keyed, 401, json=BODY, headers={"x-nexus-server-key": "x"}))["code"] == "server_key_wrong"
    assert (await ask(keyed, 403, json=BODY, headers={"x-tenant-id": "acme"}))["code"] == "tenant_needs_key"
    assert (await ask(keyed, 404, "GET", "/none"))["code"] == "not_found"
    assert (await ask(keyed, 405, "PUT"))["code"] == "method_not_allowed"
    assert (await ask(keyed, 413, data=io.BytesIO(b"x" * 3_000_000)))["code"] == "body_too_large"
    for headers, code in (
        ({"Content-Type": "text/html"}, "content_type_unsupported"),
        ({"Content-Type": "text/plain; charset=latin-1"}, "charset_unsupported"),
        ({"Content-Encoding": "gzip"}, "encoding_unsupported"),
    ):
        assert (await ask(keyed, 415, data=b"{}", headers=headers))["code"] == code
    assert (await ask(keyed, 417, json=BODY, headers={"Expect": "x"}))["code"] == "expectation_failed"
    assert (await ask(keyed, 431, json=BODY, headers={"x-a": "a" * 20_000}))["code"] == "headers_too_large"
    assert (await ask(keyed, 200, "GET"))["status"] == "healthy"
    for path in ("/live", "/ready", "/openapi.json"):
        await ask(keyed, 200, "GET", path)

    async def late() -> Any:
        yield b"{"
        await asyncio.sleep(5)

    assert (await ask(keyed, 408, data=late()))["code"] == "body_timeout"
    for _ in range(40):
        async with keyed.session.post(keyed.url, json={}) as response:
            if response.status == 429:
                break
    assert (await ask(keyed, 429, json=BODY))["code"] == "too_many_requests"


async def test_without_a_broker_the_answers_are_as_described(start_gateway, topic) -> None:
    gateway = await start_gateway(type(topic)(f"127.0.0.1:{free_port()}"))
    assert (await ask(gateway, 503, json=BODY))["code"] == "broker_unavailable"
    assert (await ask(gateway, 503, "GET"))["code"] == "broker_unavailable"
    assert (await ask(gateway, 503, "GET", "/ready"))["status"] == "not ready"


async def test_an_error_of_our_own_is_as_described() -> None:
    class Broken:
        connected, problem = True, ""

        async def publish(self, *_: object) -> None:
            raise RuntimeError("quotes the request")

    runner = GatewayRunner(create_app(load_settings("gateway", environ={}), Broken()))  # type: ignore[arg-type]
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        url = f"http://127.0.0.1:{runner.addresses[0][1]}/api/nexus/producer"
        async with aiohttp.ClientSession() as session, session.post(url, json=BODY) as response:
            answer = await response.json()
            assert response.status == 500
        assert_as_described("/api/nexus/producer", "post", 500, answer)
        assert answer == {"error": "Internal error", "code": "internal_error"}
    finally:
        await runner.cleanup()


async def test_only_the_sites_server_names_a_tenant(keyed, topic) -> None:
    assert (await keyed.post(BODY, headers={**KEYED, "x-tenant-id": "acme"}))[0] == 202
    page = {"Origin": "https://www.example.com", "x-tenant-id": "acme"}
    for headers in (page, {"x-tenant-id": "acme"}, {**page, "x-nexus-server-key": b"\xff".decode("latin-1")}):
        status, answer, _ = await keyed.post(BODY, headers=headers)
        assert status in {401, 403}
        assert KEY not in json.dumps(answer)
    (record,) = await topic.records()
    assert record.key == b"acme:s"
    assert KEY.encode() not in record.value


async def test_a_route_handler_is_not_limited_as_one_visitor(keyed) -> None:
    statuses = {(await keyed.post(BODY, headers=KEYED))[0] for _ in range(100)}
    assert statuses == {202}
    named = {**KEYED, "x-nexus-visitor-address": "203.0.113.7"}
    assert [(await keyed.post(BODY, headers=named))[0] for _ in range(41)][-2:] == [202, 429]


async def test_the_record_says_whether_an_identity_is_proven(keyed, topic) -> None:
    proof = hmac.new(SECRET.encode(), b"user-42", "sha256").hexdigest()
    for sent in (
        {"identity": "user-42", "identityHash": proof.upper()},
        {"metadata": {"identity": "user-42", "identityHash": proof}},
        {"identity": "user-42", "identityHash": "0" * 64, "metadata": {"identityProven": True}},
        {"metadata": {"identityProven": True}},
    ):
        assert (await keyed.post({**BODY, **sent}))[0] == 202
    found = [orjson.loads(record.value)["metadata"] for record in await topic.records()]
    assert [(one.get("identity"), one.get("identityProven")) for one in found] == [
        ("user-42", True),
        ("user-42", True),
        ("user-42", False),
        (None, None),
    ]
    assert not any("identityHash" in one for one in found)


async def test_the_metrics_tell_codes_keys_and_identities(keyed) -> None:
    def counts() -> dict[str, float]:
        samples = {
            "wrong key": ("nexus_gateway_refused_total", {"code": "server_key_wrong"}),
            "no JSON": ("nexus_gateway_refused_total", {"code": "body_not_json"}),
            "key": ("nexus_gateway_keyed_total", {"key": "web"}),
            "proven": ("nexus_gateway_identities_total", {"outcome": "proven"}),
            "wrong hash": ("nexus_gateway_identities_total", {"outcome": "wrong_hash"}),
            "claimed": ("nexus_gateway_identities_total", {"outcome": "claimed"}),
        }
        return {name: REGISTRY.get_sample_value(*sample) or 0.0 for name, sample in samples.items()}

    before = counts()
    proof = hmac.new(SECRET.encode(), b"u", "sha256").hexdigest()
    await keyed.post(BODY, headers={"x-nexus-server-key": "guess"})
    await keyed.post(b"{", headers=KEYED)
    await keyed.post({**BODY, "identity": "u", "identityHash": proof}, headers=KEYED)
    await keyed.post({**BODY, "identity": "u", "identityHash": "0"})
    await keyed.post({**BODY, "identity": "u"})
    # What is refused counts no identity.
    await keyed.post({"identity": "u", "identityHash": proof})
    grown = {name: value - before[name] for name, value in counts().items()}
    assert grown == {"wrong key": 1, "no JSON": 1, "key": 2, "proven": 1, "wrong hash": 1, "claimed": 1}
