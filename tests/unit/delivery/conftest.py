from __future__ import annotations

import orjson
import pytest

from nexus_stream.contracts.conversation import Limits, decode
from nexus_stream.contracts.headers import ORIGIN_TIMESTAMP_HEADER
from nexus_stream.delivery.received import Received
from nexus_stream.delivery.settling import Snapshot


def build_snapshot(
    turns: list[str],
    *,
    session: str = "s-1",
    offset: int = 0,
    timestamp_ms: int = 1_000_000,
    fingerprint: str | None = None,
    consent: bool | None = None,
    origin_ms: int | None = None,
    identity: str | None = None,
    first: str = "user",
) -> Snapshot:
    body = {
        "messages": [
            {"role": "user" if (index % 2 == 0) == (first == "user") else "assistant", "content": text}
            for index, text in enumerate(turns)
        ],
        "sessionId": session,
        "fingerprint": fingerprint,
        "metadata": {"consent": consent, "identity": identity},
    }
    value = orjson.dumps(body)
    headers = () if origin_ms is None else ((ORIGIN_TIMESTAMP_HEADER, str(origin_ms).encode()),)
    record = Received("ingestion", 0, offset, timestamp_ms, b"k", value, headers, epoch=1)
    return Snapshot.of(record, decode(value, Limits(turns=1000)))


@pytest.fixture
def snapshot():
    return build_snapshot
