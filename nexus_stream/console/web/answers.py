"""The answers of ``/api/v1``: one model per object. The JSON and the OpenAPI document are made from these models.

Bounds and lists of values are only in the schemas. The models do not check them, because the console shows every stored
value.
"""

from __future__ import annotations

import base64
import sqlite3
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, Json, model_validator

from nexus_stream.console.alerts.conditions import AlertKind
from nexus_stream.console.reading.activity import STATES
from nexus_stream.console.web.rendering import iso
from nexus_stream.contracts.status import PartitionLag, ProcessRole


def _text(raw: bytes | None) -> str | None:
    return None if raw is None else bytes(raw).decode("utf-8", "backslashreplace")


def _base64(raw: bytes | None) -> str | None:
    return None if raw is None else base64.b64encode(raw).decode()


_Count = Annotated[int, Field(json_schema_extra={"minimum": 0})]
_State = Annotated[str, Field(json_schema_extra={"enum": list(STATES)})]
_DateTime = Annotated[str, Field(json_schema_extra={"format": "date-time"})]
_Encoded = Annotated[str, Field(json_schema_extra={"contentEncoding": "base64"})]
# Converted from Unix milliseconds. 0 and None mean that there is no time.
_Time = Annotated[_DateTime, BeforeValidator(iso)]
_TimeOrNone = Annotated[_DateTime | None, BeforeValidator(lambda at_ms: iso(at_ms) if at_ms else None)]
_Object = dict[str, Any]


class Answer(BaseModel):
    """Made from attributes, a row or a mapping. Every property is always present. v1 may get more properties."""

    model_config = ConfigDict(from_attributes=True, json_schema_serialization_defaults_required=True)

    @model_validator(mode="before")
    @classmethod
    def _of_row(cls, value: Any) -> Any:
        return dict(value) if isinstance(value, sqlite3.Row) else value


class Error(Answer):
    model_config = ConfigDict(json_schema_serialization_defaults_required=False)

    error: str
    reason: str = Field(default="", description="The fix. Only for operators, with status 503.")


class Freshness(Answer):
    problem: str | None
    lag: _Count
    caught_up_at: _TimeOrNone = Field(validation_alias="caught_up_at_ms")


class Role(Answer):
    role: ProcessRole
    running: _Count
    state: str
    per_second: float
    finished: _Count
    failed: _Count
    error_rate: float
    p50_ms: float | None
    p95_ms: float | None
    unread: _Count
    settling: _Count
    overdue: _Count
    age_seconds: float
    partitions: list[PartitionLag]


class Process(Answer):
    process_id: str
    role: str
    state: str
    detail: str | None
    state_seconds: float
    silent_seconds: float
    is_silent: bool
    version: str
    host: str
    pid: _Count
    started_at_ms: _Count
    p50_ms: float | None
    p95_ms: float | None
    partitions: list[PartitionLag]
    outcomes: dict[str, _Count]
    lag_known: bool
    placeholder_ids: dict[str, _Count]


class Alert(Answer):
    kind: AlertKind
    where: str
    value: float
    threshold: float
    detail: str
    is_critical: bool
    since: _Time = Field(validation_alias="since_ms")


class LastDay(Answer):
    emitted: _Count = Field(validation_alias="emitted_today")
    tokens: _Count = Field(validation_alias="tokens_today")
    usd: float = Field(validation_alias="usd_today")
    budget_usd: float | None = Field(validation_alias="budget_usd_per_day")


class Overview(Answer):
    freshness: Freshness
    roles: list[Role]
    processes: list[Process]
    alerts: list[Alert]
    sessions: _Count
    open_letters: _Count
    last_24_hours: LastDay


class Series(Answer):
    step_seconds: _Count
    times: list[_Count]
    curves: dict[str, list[float | None]]


class Session(Answer):
    tenant_id: str
    session_id: str
    status: str
    nombre: str | None
    email: str | None
    telefono: str | None
    fingerprint: str | None
    momento: str | None
    arquetipo: str | None
    objeciones: Annotated[list[str], BeforeValidator(lambda joined: [text for text in joined.split(",") if text])]
    nivel_interes: float | None
    extractor: str | None
    turns: _Count
    first_seen: _Time = Field(validation_alias="first_seen_ms")
    last_seen: _Time = Field(validation_alias="last_seen_ms")


class Sessions(Answer):
    sessions: list[Session]
    next: str | None


class Emission(Answer):
    id: _Count
    event_id: str
    kind: str
    key: Annotated[str, BeforeValidator(_text)]
    partition: _Count
    offset: _Count
    at: _Time = Field(validation_alias="recorded_at_ms")
    momento: str | None
    nivel_interes: float | None
    extractor: str | None
    turns: _Count
    input_tokens: _Count
    output_tokens: _Count
    cost_usd: float
    latency_ms: float
    is_repeat: bool


class Emissions(Answer):
    emissions: list[Emission]
    next: str | None


class LetterGroup(Answer):
    reason: str
    state: _State
    count: _Count
    first_failed_ms: _Count
    last_failed_ms: _Count


class Letter(Answer):
    id: str
    reason: str
    error: str
    error_class: str
    origin_topic: str
    partition: _Count
    offset: _Count
    attempts: _Count
    redrives_before: _Count
    redriven: _Count
    state: _State
    size_bytes: _Count
    copies: _Count
    failed_at: _Time = Field(validation_alias="failed_at_ms")
    marked_by: Annotated[str | None, BeforeValidator(lambda name: name or None)]
    marked_at: _TimeOrNone = Field(validation_alias="marked_at_ms")


class Letters(Answer):
    groups: list[LetterGroup]
    letters: list[Letter]
    next: str | None


class Header(Answer):
    name: str
    value: Annotated[_Encoded, BeforeValidator(lambda raw: _base64(raw or b""))]


class Content(Answer):
    key: Annotated[_Encoded | None, BeforeValidator(_base64)]
    value: Annotated[_Encoded | None, BeforeValidator(_base64)]
    headers: Annotated[
        list[Header], BeforeValidator(lambda pairs: [{"name": name, "value": value} for name, value in pairs])
    ]


class LetterDetail(Answer):
    letter: Letter
    session_key: Annotated[str | None, BeforeValidator(_text)]
    problem: str | None
    content: Content | None


class Place(Answer):
    partition: _Count
    offset: _Count
    at: _Time = Field(validation_alias="recorded_at_ms")


class Evidence(Answer):
    text: str
    signals: list[str]


class Turn(Answer):
    number: _Count
    role: str
    text: str
    evidence: list[Evidence]


class Conversation(Answer):
    problem: str | None = Field(description="hidden (for operators only), expired, unreachable, missing, changed, none")
    turns: list[Turn]


class DatabaseRow(Answer):
    problem: str | None = None
    updated_at: str | None = None
    rows: Json[_Object] | None = Field(default=None, validation_alias="json")


class SessionDetail(Answer):
    session: Session
    prospect: _Object | None
    extraction: _Object | None
    changelog: Place
    emissions: list[Emission]
    conversation: Conversation
    database: DatabaseRow | None
    others: list[Session]
    letters: list[Letter]
    state: _Object | None


class Acted(Answer):
    letters: _Count
    left: _Count
    dry_run: bool


class Actions(Answer):
    actions: list[_Object]
