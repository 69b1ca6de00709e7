"""The OpenAPI 3.1 document of the gateway, made from the bodies' models and from the refusals' codes.

To: ``contracts/openapi.json``; the gateway serves the same text at ``/openapi.json``.
"""

from __future__ import annotations

import json
from functools import cache
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaMode, models_json_schema

from nexus_stream.contracts.gateway_api import (
    Accepted,
    Healthy,
    NotReady,
    PostedConversation,
    ReadyState,
    Refusal,
    Unhealthy,
)
from nexus_stream.contracts.refusal_codes import RefusalCode

__all__ = ["OPENAPI", "openapi_document", "openapi_text"]

OPENAPI = "openapi.json"

_ANSWERS = (Accepted, Refusal, Healthy, Unhealthy, ReadyState, NotReady)
_MODELS: list[tuple[type[BaseModel], JsonSchemaMode]] = [
    (PostedConversation, "validation"),
    *((model, "validation") for model in _ANSWERS),
]
_TEXT = {"type": "string"}
# Refusals that can only meet another path or method.
_ELSEWHERE = {RefusalCode.NOT_FOUND.status, RefusalCode.METHOD_NOT_ALLOWED.status}
_RETRIED = {RefusalCode.TOO_MANY_REQUESTS.status, RefusalCode.BROKER_UNAVAILABLE.status}


class _Schemas(GenerateJsonSchema):
    """Schemas without titles that only repeat the names of fields."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False


def openapi_document() -> dict[str, Any]:
    """The document as plain data."""
    _, schemas = models_json_schema(_MODELS, ref_template="#/components/schemas/{model}", schema_generator=_Schemas)
    statuses = sorted({code.status for code in RefusalCode})
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "nexus-stream gateway",
            "version": "1.0.0",
            "description": (
                "Websites post their chats here. Every refusal has a `code`: docs/reference/gateway-errors.md explains "
                "each. New codes and new fields may come: ignore what you do not know."
            ),
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": "/"}],
        "paths": {
            "/api/nexus/producer": {"post": _post(statuses), "get": _health()},
            "/live": {"get": _probe("live", "Whether the process runs.", can_fail=False)},
            "/ready": {"get": _probe("ready", "Whether a load balancer should send requests.", can_fail=True)},
            "/openapi.json": {
                "get": _operation("openapi", "This document.", {"200": _response("OK", {"type": "object"})})
            },
        },
        "components": {
            "securitySchemes": {
                "serverKey": {
                    "type": "apiKey",
                    "in": "header",
                    "name": "x-nexus-server-key",
                    "description": "For the site's own servers, never in a page. `nexus gateway key NAME` makes one.",
                }
            },
            "schemas": schemas["$defs"],
            "responses": {_name(status): _refused(status) for status in statuses}
            | {"Refused": _response("Refused.", _ref(Refusal))},
        },
    }


@cache
def openapi_text() -> str:
    """The document as JSON."""
    return json.dumps(openapi_document(), indent=2, ensure_ascii=False) + "\n"


def _post(statuses: list[int]) -> dict[str, Any]:
    accepted = _response("Accepted: the broker has it on all in-sync replicas.", _ref(Accepted))
    accepted["headers"] = {
        "X-Message-Id": {"description": "The same as `messageId`.", "schema": _TEXT},
        "X-Processing-Time": {"description": "For example `3ms`.", "schema": _TEXT},
    }
    refused = {
        str(status): {"$ref": f"#/components/responses/{_name(status)}"}
        for status in statuses
        if status not in _ELSEWHERE
    }
    operation = _operation("postConversation", "Accept one snapshot of a chat.", {"202": accepted} | refused)
    operation["description"] = (
        "Send the whole history each time. An equal snapshot is recognised, so sending it again does no harm. Pages "
        "send `text/plain` (no preflight) or `application/json`."
    )
    operation["security"] = [{}, {"serverKey": []}]
    operation["parameters"] = [
        _header(
            "x-tenant-id", "The tenant. For servers: with a key, if the gateway has keys.", r"^[A-Za-z0-9_.-]{0,64}$"
        ),
        _header("x-nexus-visitor-address", "With a key: the visitor's IP address, for the rate limit."),
        _header("traceparent", "W3C trace context."),
    ]
    body = {"schema": _ref(PostedConversation)}
    text = {"schema": {"type": "string", "contentMediaType": "application/json", "contentSchema": body["schema"]}}
    operation["requestBody"] = {"required": True, "content": {"application/json": body, "text/plain": text}}
    return operation


def _health() -> dict[str, Any]:
    return _operation(
        "health",
        "Whether snapshots are accepted. Sends no message.",
        {
            "200": _response("They are.", _ref(Healthy)),
            "503": _response("They are not; `error` names the problem.", _ref(Unhealthy)),
        },
    )


def _probe(name: str, summary: str, *, can_fail: bool) -> dict[str, Any]:
    failed = {"503": _response("No.", _ref(NotReady))} if can_fail else {}
    return _operation(name, summary, {"200": _response("Yes.", _ref(ReadyState))} | failed)


def _operation(operation_id: str, summary: str, responses: dict[str, Any]) -> dict[str, Any]:
    default = {"default": {"$ref": "#/components/responses/Refused"}}
    return {"operationId": operation_id, "summary": summary, "responses": responses | default}


def _response(description: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def _refused(status: int) -> dict[str, Any]:
    codes = [str(code) for code in RefusalCode if code.status == status]
    response = _response(
        f"Refused: {', '.join(codes)}.",
        {"allOf": [_ref(Refusal), {"properties": {"code": {"enum": codes}}}]},
    )
    if status in _RETRIED:
        response["headers"] = {
            "Retry-After": {"description": "Seconds to wait.", "schema": {"type": "integer", "minimum": 1}}
        }
    return response


def _name(status: int) -> str:
    return f"Refused{status}"


def _header(name: str, description: str, pattern: str | None = None) -> dict[str, Any]:
    schema = _TEXT if pattern is None else {**_TEXT, "pattern": pattern}
    return {"name": name, "in": "header", "required": False, "description": description, "schema": schema}


def _ref(model: type[BaseModel]) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{model.__name__}"}
