"""Load the details of one session: emissions, letters, text, database row, and the person's other sessions.

From: the index; text from the ingestion topic; the row from PostgreSQL. The session page and the API show the same.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nexus_stream.console.index.session_row import state_of
from nexus_stream.console.reading.activity import LetterFilter
from nexus_stream.console.web.context import Context
from nexus_stream.console.web.conversation_text import shown_turns
from nexus_stream.console.web.database_row import database_row
from nexus_stream.console.web.session_pages import ShownConversation
from nexus_stream.console.web.topic_reader import Absent
from nexus_stream.console.web.viewing import Viewing
from nexus_stream.contracts.conversation import Conversation, Limits, decode, digest
from nexus_stream.contracts.limits import enricher_limits
from nexus_stream.errors import DecodeError

__all__ = ["SessionDetail", "load_detail"]

_OTHERS = 20
_LETTERS = 5
# Limits that cut no stored conversation: the settings may have been wider when it was extracted.
_ANY = Limits(body_bytes=20_000_000, turns=10_000, turn_chars=10_000_000, id_chars=100_000)


@dataclass(frozen=True, slots=True)
class SessionDetail:
    """The details of one session. A viewer's copy has no text and no database row."""

    emissions: Sequence[sqlite3.Row]
    others: Sequence[sqlite3.Row]
    letters: Sequence[sqlite3.Row]
    conversation: ShownConversation
    database: Mapping[str, Any] | None


async def load_detail(context: Context, reader: Viewing, row: sqlite3.Row) -> SessionDetail:
    """Load all parts concurrently. A part that cannot be loaded contains its problem; the others still load."""
    return SessionDetail(
        *await asyncio.gather(
            asyncio.to_thread(context.activity.timeline, row["key"]),
            asyncio.to_thread(context.sessions.others_of_person, row, _OTHERS),
            asyncio.to_thread(context.activity.letters, LetterFilter(session_key=row["key"], state=None), _LETTERS),
            _conversation(context, reader, state_of(row["state"])),
            database_row(context.settings, row["tenant_id"], row["session_id"]) if reader.is_operator else _hidden(),
        )
    )


def _decoded(value: bytes | None, limits: Limits, state: Mapping[str, Any]) -> Conversation | None:
    """The conversation of the state. After a topic was recreated, an offset may contain another person's text."""
    try:
        conversation = decode(value, limits)
    except DecodeError:
        return None
    return conversation if digest(conversation) == state.get("digest") else None


async def _hidden() -> Mapping[str, Any]:
    return {"problem": "hidden"}


async def _conversation(context: Context, reader: Viewing, state: Mapping[str, Any]) -> ShownConversation:
    """Return the text that the newest record was extracted from, with marked evidence."""
    partition, offset = state.get("source_partition"), state.get("source_offset")
    if not state.get("digest") or not isinstance(partition, int) or not isinstance(offset, int):
        return ShownConversation(problem="none")
    if not reader.is_operator:
        return ShownConversation(problem="hidden")
    record = await context.reader.read(context.settings.ingestion_topic, partition, offset)
    if isinstance(record, Absent):
        return ShownConversation(problem=record.name.lower())
    conversation = _decoded(record.value, enricher_limits(context.settings), state)
    conversation = conversation or _decoded(record.value, _ANY, state)
    if conversation is None:
        return ShownConversation(problem="changed")
    extraction = state.get("extraction")
    signals = extraction.get("signals", []) if isinstance(extraction, dict) else []
    messages = [(message.role, message.content) for message in conversation.messages]
    return ShownConversation(turns=shown_turns(messages, [signal for signal in signals if isinstance(signal, dict)]))
