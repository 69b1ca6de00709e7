"""One record of a topic that the console follows beside the changelog, and what takes such records in.

From: indexer.py. To: emissions.py, letters.py, processes.py, each the one writer of its tables.
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
    "nexus_console_left_out_total", "Records that are not as published or cannot be stored, so not shown", ["topic"]
)


@dataclass(frozen=True, slots=True)
class TopicRecord:
    """One record as read from the broker. ``timestamp_ms`` is the broker's; a value of None is a tombstone."""

    partition: int
    offset: int
    timestamp_ms: int
    key: bytes
    value: bytes | None
    headers: Headers = ()

    def header(self, name: str) -> str:
        """The last header of that name as text; empty when there is none."""
        for header_name, value in reversed(self.headers):
            if header_name == name:
                return value.decode("utf-8", "replace")
        return ""


class TopicWriter(Protocol):
    """The tables of one topic.

    Attributes:
        newest_only: Read at most so many of the newest records when the topic is seen for the first time; None: all.
        whole_ms: But of so long a time all of them, however many.
    """

    newest_only: int | None
    whole_ms: int

    def apply(self, db: sqlite3.Connection, records: Sequence[TopicRecord]) -> None:
        """Take records in, inside the caller's transaction."""
        ...

    def prune(self, db: sqlite3.Connection, now_ms: int) -> None:
        """Forget what is too old or too much, inside the caller's transaction."""
        ...

    def clear(self, db: sqlite3.Connection) -> None:
        """Forget everything: the topic is another one now. Inside the caller's transaction."""
        ...
