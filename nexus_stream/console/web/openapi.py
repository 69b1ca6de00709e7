"""The OpenAPI 3.1 description of ``/api/v1``, made from the served routes and the models of their answers.

To: ``/api/v1/openapi.json``.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from aiohttp.typedefs import Handler
from pydantic.json_schema import GenerateJsonSchema, models_json_schema

from nexus_stream import __version__
from nexus_stream.console.web.answers import Answer, Error

__all__ = ["INTEGER", "TEXT", "TIME", "Route", "openapi_document", "parameter"]

TEXT = {"type": "string"}
TIME = {"type": "string", "format": "date-time"}
INTEGER = {"type": "integer"}

_PLACES = {"tenant": "The tenant; ~ for none.", "session": "The session id.", "id": "The letter's id."}
_REFUSALS = {
    "bad_request": "A parameter is not valid.",
    "unauthorized": "No token, or a wrong one.",
    "forbidden": "For operators only.",
    "not_found": "The object does not exist.",
    "unavailable": "The broker does not answer, or the query takes too long.",
}
_ACTION: dict[str, Any] = {
    "description": (
        "One letter by `id`, or all open letters of a `reason`. `dry_run` only counts. For operators only. A request "
        "with the browser's cookie also needs the header `X-CSRF-Token`."
    ),
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "properties": {"id": TEXT, "reason": TEXT, "dry_run": {"type": "boolean"}},
                    "anyOf": [{"required": ["id"]}, {"required": ["reason"]}],
                }
            }
        },
    },
}


@dataclass(frozen=True, slots=True)
class Route:
    """One operation.

    Attributes:
        path: The path under ``/api/v1``, in the router's syntax.
        handler: The handler. Its docstring is the summary.
        answer: The model of the answer.
        query: The parameters that are not in the path.
    """

    path: str
    handler: Handler
    answer: type[Answer]
    query: tuple[dict[str, Any], ...] = ()
    method: Literal["get", "post"] = "get"


def parameter(
    name: str, schema: dict[str, Any], description: str, *, place: Literal["query", "path"] = "query"
) -> dict[str, Any]:
    """Make a parameter of an operation."""
    always = {"required": True} if place == "path" else {}
    return {"name": name, "in": place, "schema": schema, "description": description} | always


def openapi_document(routes: Iterable[Route]) -> dict[str, Any]:
    """Make the document."""
    _, schemas = models_json_schema(
        [(model, "serialization") for model in Answer.__subclasses__()],
        ref_template="#/components/schemas/{model}",
        schema_generator=_Schemas,
    )
    paths: dict[str, Any] = {"/openapi.json": {"get": _operation("This document.", {"type": "object"}, [])}}
    for route in routes:
        path = re.sub(r"{(\w+):[^}]*}", r"{\1}", route.path)
        names = re.findall(r"{(\w+)}", path)
        parameters = [parameter(name, TEXT, _PLACES[name], place="path") for name in names]
        summary, _, description = (inspect.getdoc(route.handler) or "").partition("\n\n")
        operation = _operation(summary, _ref(route.answer), [*parameters, *route.query])
        if description:
            operation["description"] = description
        if names:
            operation["responses"]["404"] = {"$ref": "#/components/responses/not_found"}
        if route.method == "post":
            operation["responses"]["503"] = {"$ref": "#/components/responses/unavailable"}
            operation |= _ACTION
        paths[path] = {route.method: operation}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "nexus-stream console",
            "version": __version__,
            "description": (
                "The console's data as JSON. Send `Authorization: Bearer TOKEN` with NEXUS_CONSOLE_TOKEN (operator) "
                "or NEXUS_CONSOLE_VIEWER_TOKEN (viewer: personal data is masked, no actions). If no token is set, the "
                "console serves only its own host, and reading needs no token. To get the next page, send `next` as "
                "`after`."
            ),
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": "/api/v1"}],
        "security": [{"token": []}, {}],
        "paths": paths,
        "components": {
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
            "schemas": schemas["$defs"],
            "responses": {
                name: {"description": text, "content": {"application/json": {"schema": _ref(Error)}}}
                for name, text in _REFUSALS.items()
            },
        },
    }


class _Schemas(GenerateJsonSchema):
    """Schemas without titles that only repeat the names of fields."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False


def _operation(summary: str, schema: dict[str, Any], parameters: list[dict[str, Any]]) -> dict[str, Any]:
    responses: dict[str, Any] = {"200": {"description": "OK", "content": {"application/json": {"schema": schema}}}}
    responses |= {
        status: {"$ref": f"#/components/responses/{name}"}
        for status, name in (("400", "bad_request"), ("401", "unauthorized"), ("403", "forbidden"))
    }
    return {"summary": summary, "parameters": parameters, "responses": responses}


def _ref(model: type[Answer]) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{model.__name__}"}
