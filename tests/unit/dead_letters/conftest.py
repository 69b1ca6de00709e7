"""Letters made as the workers make them: by `letter_headers`, read back by `read_record`."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from nexus_stream.contracts.headers import Headers
from nexus_stream.dead_letters.letter import Letter, read_record
from nexus_stream.delivery.dead_letters import letter_headers
from nexus_stream.delivery.received import Received
from nexus_stream.errors import PermanentError, Reason

FAILED_AT = datetime(2026, 1, 31, 12, 0, tzinfo=UTC)

MakeLetter = Callable[..., Letter]


@pytest.fixture
def make_letter() -> MakeLetter:
    def make(
        value: bytes | None = b'{"sessionId":"s-1"}',
        *,
        key: bytes | None = b"s-1",
        reason: Reason = Reason.WRONG_SHAPE,
        topic: str = "nexus-prospect-ingestion",
        offset: int = 41,
        timestamp_ms: int = 1_769_850_000_000,
        failed_at: datetime = FAILED_AT,
        headers: Headers = (("correlation-id", b"c-1"),),
        at: tuple[int, int] = (0, 7),
    ) -> Letter:
        record = Received(topic, 3, offset, timestamp_ms, key, value, headers, epoch=1)
        error = PermanentError("messages.0.role is missing", reason=reason)
        written = letter_headers(record, error, attempts=2, failed_at=failed_at.isoformat())
        letter: Any = read_record(*at, 1_769_860_000_000, key, value, written)
        assert isinstance(letter, Letter)
        return letter

    return make
