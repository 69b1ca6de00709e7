"""The limits on one conversation, from the settings. Gateway and enricher must agree on them."""

from __future__ import annotations

from dataclasses import dataclass

from nexus_stream.contracts.topics import max_record_bytes
from nexus_stream.settings import Settings

__all__ = ["Limits", "enricher_limits", "gateway_limits"]

# The gateway adds metadata to a body. These bytes do not count against the sender's limit.
_METADATA_BYTES = 16_384


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits on one snapshot.

    Attributes:
        body_bytes: Bytes of a record. A longer history is cut to this.
        turns: Turns; likewise.
        turn_chars: Characters of one turn; a longer one is cut.
        id_chars: Characters of an id. A longer session id is refused, another id is ignored.
        wire_bytes: Bytes that are read at all; ``body_bytes`` if that is more.
    """

    body_bytes: int = 262_144
    turns: int = 200
    turn_chars: int = 8000
    id_chars: int = 256
    wire_bytes: int = 0

    @property
    def read_bytes(self) -> int:
        """More bytes than this are refused unread."""
        return max(self.body_bytes, self.wire_bytes)


def gateway_limits(settings: Settings) -> Limits:
    """The limits on a request's body."""
    return Limits(
        settings.max_body_bytes,
        settings.max_turns,
        settings.max_turn_chars,
        settings.max_id_chars,
        settings.max_request_bytes,
    )


def enricher_limits(settings: Settings) -> Limits:
    """The limits on a record of the ingestion topic: whatever the topic admits is read, and then cut."""
    return Limits(
        settings.max_body_bytes + _METADATA_BYTES,
        settings.max_turns,
        settings.max_turn_chars,
        settings.max_id_chars,
        max_record_bytes(settings),
    )
