"""When a record was received, as far as its timestamp can be trusted.

A topic with LogAppendTime has the broker's time. With CreateTime the timestamp is what the producer claims: any number.
A wrong claim would hide what a visitor says later, or make the gateway refuse everybody.
"""

from __future__ import annotations

from datetime import UTC, datetime

__all__ = ["MAX_AHEAD_MS", "received_ms"]

# Two clocks that are set by NTP differ by less. A larger lead would order a session's later messages before this one.
MAX_AHEAD_MS = 5_000
# No record is older than this software. Seconds in the place of milliseconds give a day of January 1970.
_OLDEST_MS = round(datetime(2020, 1, 1, tzinfo=UTC).timestamp() * 1000)
_LOG_APPEND_TIME = 1


def received_ms(timestamp_ms: int | None, timestamp_type: int | None, now_ms: int) -> int:
    """When the record was received, Unix milliseconds: its timestamp, or now if that cannot be right.

    Args:
        timestamp_ms: The record's timestamp: in -1, seconds, microseconds and the future it cannot be right.
        timestamp_type: 1 if the broker set it.
        now_ms: The reader's time.
    """
    if timestamp_ms is None or timestamp_ms < _OLDEST_MS:
        return now_ms
    is_claim = timestamp_type != _LOG_APPEND_TIME
    return now_ms if is_claim and timestamp_ms > now_ms + MAX_AHEAD_MS else timestamp_ms
