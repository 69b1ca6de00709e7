"""Limit aiokafka's logs in the gateway: nothing about a record, and each kind of line once per interval.

At DEBUG aiokafka logs the key and value of every record, which are conversations. While a broker is down, it logs
several errors for each attempt, ten times a second.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

__all__ = ["OncePerInterval", "quiet_kafka_logs"]

_INTERVAL_SECONDS = 30.0
_LOGGERS = (
    "aiokafka",
    "aiokafka.cluster",
    "aiokafka.conn",
    "aiokafka.consumer.consumer",
    "aiokafka.consumer.fetcher",
    "aiokafka.consumer.group_coordinator",
    "aiokafka.producer.producer",
    "aiokafka.producer.sender",
)


class OncePerInterval(logging.Filter):
    """Passes one log record of each message template per interval.

    Args:
        clock: Monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._passed_at: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is logged."""
        now = self._clock()
        # The templates are literals in aiokafka's source, so there are few.
        if now - self._passed_at.get(str(record.msg), -_INTERVAL_SECONDS) < _INTERVAL_SECONDS:
            return False
        self._passed_at[str(record.msg)] = now
        return True


_FILTER = OncePerInterval()


def quiet_kafka_logs() -> None:
    """Set the levels and filters; a second call changes nothing."""
    for name in _LOGGERS:
        logger = logging.getLogger(name)
        if logger.getEffectiveLevel() < logging.INFO:
            logger.setLevel(logging.INFO)
        # The filter of a logger does not apply to its children, so each logger gets it.
        logger.addFilter(_FILTER)
