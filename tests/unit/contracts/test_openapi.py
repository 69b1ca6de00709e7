"""The gateway's OpenAPI document is one, and has every code."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.openapi.models import OpenAPI  # llmock brings it
from jsonschema import Draft202012Validator

from nexus_stream.contracts.openapi import openapi_document, openapi_text
from nexus_stream.contracts.refusal_codes import RefusalCode

DOCUMENT = openapi_document()
METHODS = {"get", "put", "post", "delete", "options", "head", "patch", "trace"}


def nodes(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield value
        for inner in value.values():
            yield from nodes(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from nodes(inner)


def operations() -> Iterator[dict[str, Any]]:
    for path in DOCUMENT["paths"].values():
        assert set(path) <= METHODS
        yield from path.values()


def test_it_has_the_shape_of_openapi_31() -> None:
    assert DOCUMENT["openapi"] == "3.1.0"
    read = OpenAPI.model_validate(DOCUMENT).model_dump(by_alias=True, exclude_unset=True, mode="json")
    assert read["paths"].keys() == DOCUMENT["paths"].keys()


def test_every_schema_is_json_schema() -> None:
    schemas = [*DOCUMENT["components"]["schemas"].values()]
    schemas += [node["schema"] for node in nodes(DOCUMENT) if "schema" in node]
    assert len(schemas) > 20
    for schema in schemas:
        Draft202012Validator.check_schema(schema)


def test_every_reference_leads_somewhere() -> None:
    references = [node["$ref"] for node in nodes(DOCUMENT) if "$ref" in node]
    assert len(references) > 20
    for reference in references:
        place: Any = DOCUMENT
        for key in reference.removeprefix("#/").split("/"):
            place = place[key]


def test_every_operation_has_a_name_of_its_own_and_describes_its_answers() -> None:
    names = [operation["operationId"] for operation in operations()]
    assert len(names) == len(set(names)) == 5
    for operation in operations():
        assert operation["summary"]
        assert "default" in operation["responses"]
    for response in DOCUMENT["components"]["responses"].values():
        assert response["description"]


@pytest.mark.parametrize("code", RefusalCode)
def test_every_code_is_an_answer_of_its_status(code: RefusalCode) -> None:
    schema = DOCUMENT["components"]["responses"][f"Refused{code.status}"]["content"]["application/json"]["schema"]
    validator = Draft202012Validator({**schema, "components": DOCUMENT["components"]})
    assert validator.is_valid({"error": "No", "code": str(code)})
    assert not validator.is_valid({"error": "No"})
    assert not validator.is_valid({"error": "No", "code": "another"})


def test_the_text_is_the_document() -> None:
    assert json.loads(openapi_text()) == DOCUMENT
