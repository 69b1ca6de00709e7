"""A record of a topic other than the changelog, and the protocol of the writers that store such records.

emissions.py, letters.py and processes.py implement the protocol. Each one is the only writer of its tables.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from prometheus_client import Counter

from nexus_stream.contracts.headers import Headers

__all__ = ["LEFT_OUT", "TopicRecord", "TopicWriter"]

LEFT_OUT = Counter(
    "nexus_console_left_out_total", "Records not shown: not in the published form, or not storable", ["topic"]
)


@dataclass(frozen=True, slots=True)
class TopicRecord:
    """One record from the broker. ``timestamp_ms`` is the broker's time. ``value`` None is a tombstone."""

    partition: int
    offset: int
    timestamp_ms: int
    key: bytes
    value: bytes | None
    headers: Headers = ()

    def header(self, name: str) -> str:
        """Return the last header of this name as text, or an empty text if there is none."""
        for header_name, value in reversed(self.headers):
            if header_name == name:
                return value.decode("utf-8", "replace")
        return ""


class TopicWriter(Protocol):
    """The writer of one topic's tables.

    Attributes:
        newest_only: Number of newest records to load when the topic is first read; None: all.
        full_period_ms: Period (ms) that is always loaded in full.
    """

    newest_only: int | None
    full_period_ms: int

    def apply(self, db: sqlite3.Connection, records: Sequence[TopicRecord]) -> None:
        """Store records, in the caller's transaction."""
        ...

    def prune(self, db: sqlite3.Connection, now_ms: int) -> None:
        """Delete rows that are too old or too many, in the caller's transaction."""
        ...

    def clear(self, db: sqlite3.Connection) -> None:
        """Delete all rows, because the topic was replaced. In the caller's transaction."""
        ...
