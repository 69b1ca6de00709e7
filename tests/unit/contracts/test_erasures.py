"""Erased events and session commands: values that the database would refuse are refused when the record is read."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from nexus_stream.contracts.erased import ErasedSession, decode_erased
from nexus_stream.contracts.session_command import decode_command
from nexus_stream.errors import DecodeError, Reason

_HASH = "0a" * 32
_EVENT = {
    "session_id": "s",
    "request_id": "request-1",
    "requested_at": "2026-01-01T00:00:00Z",
    "erased_at": "2026-01-01T00:00:00.000+00:00",
    "fingerprint_hashes": [_HASH],
}
_COMMAND = {
    "command": "erase",
    "session_id": "s",
    "request_id": "request-1",
    "requested_at": "2026-01-01T00:00:00Z",
    "fingerprint_hashes": [_HASH],
}


def test_a_valid_event_is_read() -> None:
    assert decode_erased(orjson.dumps(_EVENT)).fingerprint_hashes == (_HASH,)
    assert decode_command(orjson.dumps(_COMMAND), b"erase").fingerprint_hashes == (_HASH,)


@pytest.mark.parametrize(
    "change",
    [
        {"session_id": ""},
        {"session_id": "s\x00"},
        {"tenant_id": "\x00"},
        {"request_id": "request\x00"},
        {"requested_at": "yesterday"},
        {"erased_at": ""},
        {"fingerprint_hashes": [3]},
        {"fingerprint_hashes": _HASH},
    ],
)
def test_a_malformed_event_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(DecodeError) as raised:
        decode_erased(orjson.dumps({**_EVENT, **change}))
    assert raised.value.reason is Reason.WRONG_SHAPE
    assert next(iter(change)) in str(raised.value)


@pytest.mark.parametrize("malformed", ["abc", _HASH.upper(), _HASH + "\n", ""])
def test_values_that_are_not_hashes_do_not_refuse_an_erasure(malformed: str) -> None:
    """Both in a record from the topic and in the stored state of an older version."""
    assert decode_erased(orjson.dumps({**_EVENT, "fingerprint_hashes": [malformed, _HASH]})).fingerprint_hashes == (
        _HASH,
    )
    assert ErasedSession(**{**_EVENT, "fingerprint_hashes": (malformed,)}).fingerprint_hashes == ()


@pytest.mark.parametrize(
    "change",
    [
        {"session_id": "s\x00"},
        {"request_id": "request\x00"},
        {"requested_at": "yesterday"},
        *({"fingerprint_hashes": [_HASH, malformed]} for malformed in ("abc", _HASH.upper(), _HASH + "\n", "")),
    ],
)
def test_a_malformed_command_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(DecodeError) as raised:
        decode_command(orjson.dumps({**_COMMAND, **change}), b"erase")
    assert raised.value.reason is Reason.WRONG_SHAPE
