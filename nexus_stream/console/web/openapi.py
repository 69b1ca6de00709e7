"""The OpenAPI 3.1 description of ``/api/v1``, as plain data.

To: ``/api/v1/openapi.json``. Tests compare its paths with the routes, and answers with its schemas.
"""

from __future__ import annotations

from typing import Any

from nexus_stream import __version__
from nexus_stream.console.alerts.conditions import AlertKind
from nexus_stream.console.reading.activity import STATES
from nexus_stream.console.reading.filters import PERIODS
from nexus_stream.console.reading.overview import ROLES
from nexus_stream.contracts.status import PartitionLag

__all__ = ["openapi_document"]

_Schema = dict[str, Any]

_TEXT: _Schema = {"type": "string"}
_BASE64: _Schema = {"type": "string", "contentEncoding": "base64"}
_COUNT: _Schema = {"type": "integer", "minimum": 0}
_NUMBER: _Schema = {"type": "number"}
_BOOLEAN: _Schema = {"type": "boolean"}
_TIME: _Schema = {"type": "string", "format": "date-time"}
_ANYTHING: _Schema = {"type": "object"}


def openapi_document() -> dict[str, Any]:
    """The document."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "nexus-stream console",
            "version": __version__,
            "description": (
                "What the console shows, as JSON. Send `Authorization: Bearer TOKEN` with NEXUS_CONSOLE_TOKEN "
                "(operator) or NEXUS_CONSOLE_VIEWER_TOKEN (viewer: personal data masked, no actions). Without tokens "
                "the console serves its own host only and reading needs none. Pages follow a key: pass `next` as "
                "`after`."
            ),
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": "/api/v1"}],
        "security": [{"token": []}, {}],
        "paths": _paths(),
        "components": {
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
            "schemas": _schemas(),
            "responses": {
                name: {"description": text, "content": {"application/json": {"schema": _ref("Error")}}}
                for name, text in (
                    ("bad_request", "A parameter is not valid."),
                    ("unauthorized", "No token, or a wrong one."),
                    ("forbidden", "For operators only."),
                    ("not_found", "There is no such thing."),
                    ("unavailable", "The broker does not answer, or the question takes too long."),
                )
            },
        },
    }


def _paths() -> dict[str, Any]:
    filters = [
        _query("q", _TEXT, "Words that all must occur; for viewers a whole session id."),
        _query("status", _TEXT, "enriched, waiting, dead, erased."),
        _query("momento", _TEXT, "caliente, tibio, frio."),
        _query("arquetipo", _TEXT, "One of the six archetypes."),
        _query("objecion", {"enum": ["price", "time", "trust", "mlm"]}, "With this objection."),
        _query("extractor", _TEXT, "claude, offline-rules-v1."),
        _query("period", {"enum": list(PERIODS)}, "Seen in the last."),
        _query("since", _TIME, "Seen then or later."),
        _query("until", _TIME, "Seen before."),
    ]
    limit = _query("limit", {"type": "integer", "minimum": 1, "maximum": 500}, "At most so many; 50 by default.")
    place = [
        {"name": name, "in": "path", "required": True, "schema": _TEXT, "description": text}
        for name, text in (("tenant", "The tenant; ~ for none."), ("session", "The session id."))
    ]
    return {
        "/openapi.json": {"get": _get("This document.", _ANYTHING, [])},
        "/overview": {"get": _get("Figures of each process type, processes, alerts.", _ref("Overview"), [])},
        "/series": {
            "get": _get(
                "Rates, lag, age and latency over time.",
                _ref("Series"),
                [_query("minutes", {"type": "integer", "minimum": 1, "maximum": 1440}, "How far back; 180.")],
            )
        },
        "/sessions": {
            "get": _get(
                "Sessions, the newest first. A page may have few, or none, and still a `next`: what no index finds is "
                "looked for in stretches of time.",
                _object(sessions=_list(_ref("Session")), next=_or_null(_TEXT)),
                [*filters, limit, _query("after", _TEXT, "`next` of the page before.")],
            )
        },
        "/sessions/{tenant}/{session}": {"get": _get("One session.", _ref("SessionDetail"), place, absent=True)},
        "/emissions": {
            "get": _get(
                "What was emitted, the oldest first: the newest, or with `after` the first ones beyond it.",
                _object(emissions=_list(_ref("Emission")), next=_or_null(_TEXT)),
                [_query("after", _COUNT, "Only beyond this id; 0 begins with the oldest."), limit],
            )
        },
        "/dead-letters": {
            "get": _get(
                "Dead letters by reason, and a page of them, the newest first.",
                _object(groups=_list(_ref("LetterGroup")), letters=_list(_ref("Letter")), next=_or_null(_TEXT)),
                [
                    _query("reason", _TEXT, "Of this reason."),
                    _query("state", {"enum": [*STATES, "all"]}, "open by default."),
                    limit,
                    _query("after", _TEXT, "`next` of the page before."),
                ],
            )
        },
        "/dead-letters/{id}": {
            "get": _get(
                "One dead letter; for operators with its bytes, read from the topic now.",
                _ref("LetterDetail"),
                [{"name": "id", "in": "path", "required": True, "schema": _TEXT, "description": "The letter's id."}],
                absent=True,
            )
        },
        "/dead-letters/redrive": {"post": _act("Send letters back to where they came from.")},
        "/dead-letters/discard": {"post": _act("Set letters aside for good.")},
        "/audit": {
            "get": _get(
                "What operators did, the newest first. For operators.", _object(actions=_list(_ANYTHING)), [limit]
            )
        },
    }


def _schemas() -> dict[str, _Schema]:
    counts = {"unread": _COUNT, "settling": _COUNT, "overdue": _COUNT}
    partitions = _list({name: value for name, value in PartitionLag.model_json_schema().items() if name != "title"})
    latency = {"p50_ms": _or_null(_NUMBER), "p95_ms": _or_null(_NUMBER)}
    return {
        "Error": {
            "type": "object",
            "properties": {"error": _TEXT, "reason": _TEXT | {"description": "What to do; for operators, with 503."}},
            "required": ["error"],
        },
        "Overview": _object(
            freshness=_object(problem=_or_null(_TEXT), lag=_COUNT, caught_up_at=_or_null(_TIME)),
            roles=_list(_ref("Role")),
            processes=_list(_ref("Process")),
            alerts=_list(_ref("Alert")),
            sessions=_COUNT,
            open_letters=_COUNT,
            last_24_hours=_object(emitted=_COUNT, tokens=_COUNT, usd=_NUMBER, budget_usd=_or_null(_NUMBER)),
        ),
        "Role": _object(
            role={"enum": list(ROLES)},
            running=_COUNT,
            state=_TEXT,
            per_second=_NUMBER,
            finished=_COUNT,
            failed=_COUNT,
            error_rate=_NUMBER,
            age_seconds=_NUMBER,
            partitions=partitions,
            **counts,
            **latency,
        ),
        "Process": _object(
            process_id=_TEXT,
            role=_TEXT,
            state=_TEXT,
            detail=_or_null(_TEXT),
            state_seconds=_NUMBER,
            silent_seconds=_NUMBER,
            is_silent=_BOOLEAN,
            version=_TEXT,
            host=_TEXT,
            pid=_COUNT,
            started_at_ms=_COUNT,
            partitions=partitions,
            outcomes={"type": "object", "additionalProperties": _COUNT},
            **latency,
        ),
        "Alert": _object(
            kind={"enum": [kind.value for kind in AlertKind]},
            where=_TEXT,
            value=_NUMBER,
            threshold=_NUMBER,
            detail=_TEXT,
            is_critical=_BOOLEAN,
            since=_TIME,
        ),
        "Series": _object(
            step_seconds=_COUNT,
            times=_list(_COUNT),
            curves={"type": "object", "additionalProperties": _list(_or_null(_NUMBER))},
        ),
        "Session": _object(
            tenant_id=_TEXT,
            session_id=_TEXT,
            status=_TEXT,
            nombre=_or_null(_TEXT),
            email=_or_null(_TEXT),
            telefono=_or_null(_TEXT),
            fingerprint=_or_null(_TEXT),
            momento=_or_null(_TEXT),
            arquetipo=_or_null(_TEXT),
            objeciones=_list(_TEXT),
            nivel_interes=_or_null(_NUMBER),
            extractor=_or_null(_TEXT),
            turns=_COUNT,
            first_seen=_TIME,
            last_seen=_TIME,
        ),
        "SessionDetail": _object(
            session=_ref("Session"),
            prospect=_or_null(_ANYTHING),
            extraction=_or_null(_ANYTHING),
            changelog=_object(partition=_COUNT, offset=_COUNT, at=_TIME),
            emissions=_list(_ref("Emission")),
            conversation=_ref("Conversation"),
            database=_or_null(_ref("DatabaseRow")),
            others=_list(_ref("Session")),
            letters=_list(_ref("Letter")),
            state=_or_null(_ANYTHING),
        ),
        # `problem`: hidden (for operators only), expired, unreachable, missing, changed, none.
        "Conversation": _object(
            problem=_or_null(_TEXT),
            turns=_list(
                _object(
                    number=_COUNT,
                    role=_TEXT,
                    text=_TEXT,
                    evidence=_list(_object(text=_TEXT, signals=_list(_TEXT))),
                )
            ),
        ),
        "DatabaseRow": _object(problem=_or_null(_TEXT), updated_at=_or_null(_TEXT), rows=_or_null(_ANYTHING)),
        "Emission": _object(
            id=_COUNT,
            event_id=_TEXT,
            kind=_TEXT,
            key=_TEXT,
            partition=_COUNT,
            offset=_COUNT,
            at=_TIME,
            momento=_or_null(_TEXT),
            nivel_interes=_or_null(_NUMBER),
            extractor=_or_null(_TEXT),
            turns=_COUNT,
            input_tokens=_COUNT,
            output_tokens=_COUNT,
            cost_usd=_NUMBER,
            latency_ms=_NUMBER,
            is_repeat=_BOOLEAN,
        ),
        "LetterGroup": _object(
            reason=_TEXT, state={"enum": list(STATES)}, count=_COUNT, first_failed_ms=_COUNT, last_failed_ms=_COUNT
        ),
        "Letter": _object(
            id=_TEXT,
            reason=_TEXT,
            error=_TEXT,
            error_class=_TEXT,
            origin_topic=_TEXT,
            partition=_COUNT,
            offset=_COUNT,
            attempts=_COUNT,
            redrives_before=_COUNT,
            redriven=_COUNT,
            state={"enum": list(STATES)},
            size_bytes=_COUNT,
            copies=_COUNT,
            failed_at=_TIME,
            marked_by=_or_null(_TEXT),
            marked_at=_or_null(_TIME),
        ),
        "LetterDetail": _object(
            letter=_ref("Letter"),
            session_key=_or_null(_TEXT),
            problem=_or_null(_TEXT),
            content=_or_null(
                _object(
                    key=_or_null(_BASE64),
                    value=_or_null(_BASE64),
                    headers=_list(_object(name=_TEXT, value=_BASE64)),
                )
            ),
        ),
        "Acted": _object(letters=_COUNT, left=_COUNT, dry_run=_BOOLEAN),
    }


def _get(summary: str, schema: _Schema, parameters: list[dict[str, Any]], *, absent: bool = False) -> dict[str, Any]:
    responses: dict[str, Any] = {"200": {"description": "OK", "content": {"application/json": {"schema": schema}}}}
    responses |= {
        status: {"$ref": f"#/components/responses/{name}"}
        for status, name in (("400", "bad_request"), ("401", "unauthorized"), ("403", "forbidden"))
    }
    if absent:
        responses["404"] = {"$ref": "#/components/responses/not_found"}
    return {"summary": summary, "parameters": parameters, "responses": responses}


def _act(summary: str) -> dict[str, Any]:
    body = {
        "type": "object",
        "properties": {"id": _TEXT, "reason": _TEXT, "dry_run": _BOOLEAN},
        "anyOf": [{"required": ["id"]}, {"required": ["reason"]}],
    }
    operation = _get(summary, _ref("Acted"), [])
    operation["responses"]["503"] = {"$ref": "#/components/responses/unavailable"}
    operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": body}}}
    operation["description"] = (
        "One letter by `id`, or all open ones of a `reason`. `dry_run` only counts. For operators; with the browser's "
        "cookie also the header `X-CSRF-Token`."
    )
    return operation


def _query(name: str, schema: _Schema, description: str) -> dict[str, Any]:
    return {"name": name, "in": "query", "schema": schema, "description": description}


def _ref(name: str) -> _Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def _list(items: _Schema) -> _Schema:
    return {"type": "array", "items": items}


def _or_null(schema: _Schema) -> _Schema:
    return {"anyOf": [schema, {"type": "null"}]}


def _object(**properties: _Schema) -> _Schema:
    """Every property is always there; more may be added within v1."""
    return {"type": "object", "properties": properties, "required": list(properties)}
