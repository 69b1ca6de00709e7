"""From a request body to the record on the topic."""

import hmac
import json
from typing import Any

import orjson
import pytest

from nexus_stream.contracts.conversation import Limits, decode
from nexus_stream.gateway.record import IngestionRecord, RequestContext, ingestion_record
from nexus_stream.gateway.refusal import RequestRefusedError

_LIMITS = Limits()
_CONTEXT = RequestContext(enqueued_at="2026-01-02T03:04:05.678Z", producer_version="nexus-stream/test")


def _body(**fields: Any) -> bytes:
    return json.dumps({"messages": [{"role": "user", "content": "Hola"}], "sessionId": "s-1", **fields}).encode()


def _record(body: bytes, context: RequestContext = _CONTEXT, limits: Limits = _LIMITS) -> IngestionRecord:
    return ingestion_record(body, context, limits)


def _value(body: bytes, context: RequestContext = _CONTEXT) -> dict[str, Any]:
    value: dict[str, Any] = orjson.loads(_record(body, context).value)
    return value


def _refused(body: bytes, context: RequestContext = _CONTEXT, limits: Limits = _LIMITS) -> RequestRefusedError:
    with pytest.raises(RequestRefusedError) as caught:
        _record(body, context, limits)
    return caught.value


def test_the_clients_own_fields_stay_as_they_are() -> None:
    value = _value(_body(fingerprint="fp-1", extra={"a": [1, 2.5, None]}))
    assert value["messages"] == [{"role": "user", "content": "Hola"}]
    assert value["sessionId"] == "s-1"
    assert value["fingerprint"] == "fp-1"
    assert value["extra"] == {"a": [1, 2.5, None]}


def test_missing_metadata_is_created() -> None:
    for body in (_body(), _body(metadata=None), _body(metadata={})):
        assert _value(body)["metadata"] == {
            "enqueuedAt": "2026-01-02T03:04:05.678Z",
            "producerVersion": "nexus-stream/test",
            "url": "unknown",
            "userAgent": "unknown",
        }


def test_the_gateways_clock_and_version_win() -> None:
    metadata = _value(_body(metadata={"enqueuedAt": "1999-01-01T00:00:00Z", "producerVersion": "9"}))["metadata"]
    assert metadata["enqueuedAt"] == "2026-01-02T03:04:05.678Z"
    assert metadata["producerVersion"] == "nexus-stream/test"


def test_url_and_user_agent_come_from_the_body_then_the_headers() -> None:
    context = RequestContext("t", "v", referer="https://www.example.com/from-header", user_agent="Header/1")
    own = _value(_body(metadata={"url": "https://www.example.com/a", "userAgent": "Body/1"}), context)["metadata"]
    assert (own["url"], own["userAgent"]) == ("https://www.example.com/a", "Body/1")
    for empty in ({}, {"url": "", "userAgent": " "}, {"url": None, "userAgent": 7}):
        metadata = _value(_body(metadata=empty), context)["metadata"]
        assert (metadata["url"], metadata["userAgent"]) == ("https://www.example.com/from-header", "Header/1")


def test_header_bytes_that_are_not_utf8_are_replaced() -> None:
    context = RequestContext("t", "v", user_agent=b"Agent/\xff\xfe".decode("utf-8", "surrogateescape"))
    assert _value(_body(), context)["metadata"]["userAgent"] == "Agent/??"


def test_the_tenant_comes_only_from_the_header() -> None:
    forged = _body(metadata={"tenant_id": "victim"})
    assert "tenant_id" not in _value(forged)["metadata"]
    assert _record(forged).key == b"s-1"
    context = RequestContext("t", "v", tenant_id="acme")
    assert _value(forged, context)["metadata"]["tenant_id"] == "acme"
    assert _record(forged, context).key == b"acme:s-1"


@pytest.mark.parametrize("tenant", ["a:b", "ñ", "a b", "x" * 65, "a\x00"])
def test_an_invalid_tenant_header_is_refused(tenant: str) -> None:
    refusal = _refused(_body(), RequestContext("t", "v", tenant_id=tenant))
    assert refusal.status == 400
    assert "x-tenant-id" in refusal.details
    assert tenant not in json.dumps(refusal.body, ensure_ascii=False)


def test_other_metadata_is_kept_while_it_is_small() -> None:
    metadata = _value(
        _body(
            metadata={
                "timestamp": 1767323045678,
                "consent": True,
                "utm": {"source": "news"},
                "k" * 200: 1,
                "big": "x" * 3000,
            }
        )
    )["metadata"]
    assert metadata["timestamp"] == 1767323045678
    assert metadata["consent"] is True
    assert metadata["utm"] == {"source": "news"}
    assert "big" not in metadata
    assert "k" * 200 not in metadata


def test_the_number_of_other_metadata_keys_is_bounded() -> None:
    metadata = _value(_body(metadata={f"k{number}": number for number in range(500)}))["metadata"]
    assert len([key for key in metadata if key.startswith("k")]) == 50


def test_the_enricher_can_read_every_accepted_record() -> None:
    record = _record(_body(fingerprint="fp-1", metadata={"url": "https://www.example.com/"}))
    conversation = decode(record.value, _LIMITS)
    assert conversation.key == record.key
    assert conversation.metadata.enqueued_at == "2026-01-02T03:04:05.678Z"


def test_the_two_exact_bodies_of_the_existing_site() -> None:
    messages_required = {"error": "Messages array is required and cannot be empty", "code": "messages_required"}
    assert _refused(_body(messages=[])).body == messages_required
    session_required = {"error": "sessionId is required", "code": "session_id_required"}
    for session_id in (None, "", "  "):
        assert _refused(_body(sessionId=session_id)).body == session_required
    assert _refused(b'{"messages":[{"role":"user","content":"Hola"}]}').body == session_required


@pytest.mark.parametrize(
    "body", [b"{}", b'{"sessionId":"s"}', _body(messages=None), _body(messages="x"), _body(messages={})]
)
def test_missing_messages_are_named(body: bytes) -> None:
    refusal = _refused(body)
    assert refusal.status == 400
    assert refusal.error == "Messages array is required and cannot be empty"
    assert "messages" in refusal.details


@pytest.mark.parametrize(
    ("field", "body"),
    [
        ("sessionId", _body(sessionId=[7])),
        ("sessionId", _body(sessionId="undefined")),
        ("sessionId", _body(sessionId="a\nb")),
        ("sessionId", _body(sessionId="x" * 300)),
        ("metadata.consent", _body(metadata={"consent": "perhaps"})),
        ("messages", _body(messages=[None])),
        ("messages", _body(messages=[{"role": "system", "content": "x"}])),
        ("messages", _body(messages=[{"role": "user"}])),
        ("messages", _body(messages=[{}] * 100_001)),
    ],
)
def test_each_wrong_field_is_named(field: str, body: bytes) -> None:
    refusal = _refused(body)
    assert refusal.status == 400
    assert field in refusal.details


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" ",
        b"{",
        b"nul",
        b"NaN",
        b"{}x",
        b"'a'",
        b"\xff\xfe",
        b"\x00",
        b'{"a":1e999}',
        b'{"a":"\x01"}',
    ],
)
def test_invalid_json_is_refused_with_a_position(body: bytes) -> None:
    refusal = _refused(body)
    assert refusal.status == 400
    assert refusal.error == "The body is not valid JSON"
    assert refusal.details["body"].startswith("not JSON at line")


@pytest.mark.parametrize("body", [b"[]", b"1", b'"x"', b"null", b"true"])
def test_json_that_is_not_an_object_is_refused(body: bytes) -> None:
    assert _refused(body).error == "The body must be a JSON object"


@pytest.mark.parametrize("depth", [150, 210, 300, 900, 5000])
def test_depth_is_bounded_without_a_crash(depth: int) -> None:
    body = _body().removesuffix(b"}") + b',"x":' + b"[" * depth + b"]" * depth + b"}"
    if depth == 150:
        assert orjson.loads(_record(body).value)["x"]
    else:
        assert _refused(body).error == "The body is nested too deeply"


def test_half_an_emoji_becomes_a_replacement_character() -> None:
    body = rb'{"messages":[{"role":"user","content":"hola \ud83d y \\ud83d y \ud83d\ude00 \udc00"}],"sessionId":"s"}'
    assert _value(body)["messages"][0]["content"] == "hola � y \\ud83d y \N{GRINNING FACE} �"


def test_the_last_of_repeated_keys_counts_in_every_process() -> None:
    body = b'{"messages":[{"role":"user","content":"a"}],"sessionId":"first","sessionId":"last"}'
    record = _record(body)
    assert record.key == b"last"
    assert record.value.count(b"sessionId") == 1


def test_a_value_over_the_limit_after_enriching_is_413() -> None:
    refusal = _refused(_body(metadata={"url": "x" * 2000}), limits=Limits(body_bytes=1024, wire_bytes=9999))
    assert (refusal.status, refusal.code) == (413, "body_too_large")


@pytest.mark.parametrize("secret", ["ana.perez@example.com", "+1 202 555 0147"])
def test_a_refused_value_never_comes_back(secret: str) -> None:
    for fields in (
        {"sessionId": [secret]},
        {"messages": [{"role": secret, "content": secret}]},
        {"messages": secret},
        {"metadata": {"consent": secret}},
        {secret: float("nan")},
    ):
        refusal = _refused(_body(**fields))
        assert secret not in json.dumps(refusal.body)
        assert secret not in str(refusal)


_SECRET = b"a-secret-of-the-sites-server"
_PROOF = hmac.new(_SECRET, b"user-42", "sha256").hexdigest()


def test_a_proven_identity_is_marked_and_its_hash_is_not_stored() -> None:
    context = RequestContext("t", "v", identity_secrets=(_SECRET,))
    value = _value(_body(identity="user-42", identityHash=_PROOF, metadata={"identityProven": False}), context)
    assert value["metadata"]["identity"] == "user-42"
    assert value["metadata"]["identityProven"] is True
    assert _PROOF not in json.dumps(value)
    assert not {"identity", "identityHash"} & value.keys()


def test_a_client_cannot_say_that_its_identity_is_proven() -> None:
    context = RequestContext("t", "v", identity_secrets=(_SECRET,))
    for forged in ({"identityProven": True}, {"identityProven": True, "identity": "user-42", "identityHash": "0" * 64}):
        body = _body(metadata=forged, identityProven=True)
        assert _value(body, context)["metadata"].get("identityProven", False) is False
        assert "identityProven" not in _value(body, context)


def test_a_context_does_not_show_its_secrets() -> None:
    assert "secret" not in repr(RequestContext("t", "v", identity_secrets=(_SECRET,)))


def test_two_ids_of_over_64_bits_are_two_sessions() -> None:
    """orjson reads both as one float."""
    first, second = (
        ingestion_record(_body(sessionId=123456789012345678900 + last), _CONTEXT, _LIMITS).key for last in (1, 2)
    )
    assert (first, second) == (b"123456789012345678901", b"123456789012345678902")
