"""A record of the session table's changelog that cannot be read stops its reader, and is named.

Without it a session's state would be missing in silence: a snapshot would be paid again, an erased session read again,
and an export or an erasure would not find it.
"""

from __future__ import annotations

from nexus_stream.delivery.received import Unreadable
from nexus_stream.errors import ConfigurationError

__all__ = ["require_readable_change"]


def require_readable_change(topic: str, partition: int, offset: int, value: bytes | None) -> None:
    """Raise if a changelog record cannot be read.

    Raises:
        ConfigurationError: with the record's place and the ways past it.
    """
    if not isinstance(value, Unreadable):
        return
    raise ConfigurationError(
        f"{value.describe(topic, partition, offset)}. It holds states of sessions, so the table cannot be restored. "
        f"If another replica has it, let Kafka copy that one. Otherwise stop the enrichers, delete the partition up to "
        f"offset {offset + 1} with kafka-delete-records.sh, and start them: the sessions whose newest state was there "
        "are read and paid again, and erased ones stay erased in the database. See docs/howto/troubleshooting.md."
    )
