"""What the API answers: rows and figures as JSON.

From: queries and figures. To: api.py; openapi.py describes the same shapes.
"""

from __future__ import annotations

import base64
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import orjson
from aiokafka import ConsumerRecord

from nexus_stream.console.alerts.conditions import Alert
from nexus_stream.console.reading.overview import Overview
from nexus_stream.console.web.rendering import iso
from nexus_stream.console.web.session_pages import ShownConversation

__all__ = [
    "conversation_json",
    "database_json",
    "emission_json",
    "letter_content_json",
    "letter_json",
    "overview_json",
]


def overview_json(figures: Overview, alerts: Sequence[Alert]) -> dict[str, Any]:
    """Figures, processes, alerts."""
    return {
        "roles": [
            {name: value for name, value in asdict(role).items() if name != "states"}
            | {"state": role.state, "error_rate": role.error_rate}
            | {"partitions": [lag.model_dump() for lag in role.partitions]}
            for role in figures.roles
        ],
        "processes": [
            asdict(process)
            | {"is_silent": process.is_silent, "partitions": [lag.model_dump() for lag in process.partitions]}
            for process in figures.processes
        ],
        "alerts": [
            {name: value for name, value in asdict(alert).items() if name != "since_ms"}
            | {"kind": alert.kind.value, "since": iso(alert.since_ms)}
            for alert in alerts
        ],
        "sessions": figures.sessions,
        "open_letters": figures.open_letters,
        "last_24_hours": {
            "emitted": figures.emitted_today,
            "tokens": figures.tokens_today,
            "usd": figures.usd_today,
            "budget_usd": figures.budget_usd_per_day,
        },
    }


def emission_json(row: sqlite3.Row) -> dict[str, Any]:
    """One emission."""
    names = (
        "id",
        "event_id",
        "kind",
        "partition",
        "offset",
        "momento",
        "nivel_interes",
        "extractor",
        "turns",
        "input_tokens",
        "output_tokens",
        "cost_usd",
        "latency_ms",
    )
    return (
        {name: row[name] for name in names}
        | {"key": bytes(row["key"]).decode("utf-8", "backslashreplace"), "at": iso(row["recorded_at_ms"])}
        | {"is_repeat": bool(row["is_repeat"])}
    )


def letter_json(row: sqlite3.Row) -> dict[str, Any]:
    """One dead letter, without its bytes."""
    names = (
        "id",
        "reason",
        "error",
        "error_class",
        "origin_topic",
        "partition",
        "offset",
        "attempts",
        "redrives_before",
        "redriven",
        "state",
        "size_bytes",
        "copies",
    )
    marked_at_ms = row["marked_at_ms"]
    return {name: row[name] for name in names} | {
        "failed_at": iso(row["failed_at_ms"]),
        "marked_by": row["marked_by"] or None,
        "marked_at": None if marked_at_ms is None else iso(marked_at_ms),
    }


def letter_content_json(record: ConsumerRecord) -> dict[str, Any]:
    """A letter's bytes: any of them may be no text."""
    return {
        "key": None if record.key is None else _base64(record.key),
        "value": None if record.value is None else _base64(record.value),
        "headers": [{"name": name, "value": _base64(value or b"")} for name, value in record.headers],
    }


def conversation_json(conversation: ShownConversation) -> dict[str, Any]:
    """A conversation turn by turn, each with the stretches that are evidence."""
    return {
        "problem": conversation.problem,
        "turns": [
            {
                "number": turn.number,
                "role": turn.role,
                "text": "".join(piece.text for piece in turn.pieces),
                "evidence": [
                    {"text": piece.text, "signals": list(piece.signals)} for piece in turn.pieces if piece.signals
                ],
            }
            for turn in conversation.turns
        ],
    }


def database_json(database: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """The session's row, or why it is not shown; None where the console has no database."""
    if database is None:
        return None
    if "json" not in database:
        return {"problem": database["problem"], "updated_at": None, "rows": None}
    return {"problem": None, "updated_at": database["updated_at"], "rows": orjson.loads(database["json"])}


def _base64(raw: bytes) -> str:
    return base64.b64encode(raw).decode()
