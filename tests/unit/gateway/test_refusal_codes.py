"""Every refusal in the gateway's code has a code of the list, with that code's status."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from nexus_stream import gateway
from nexus_stream.contracts.refusal_codes import RefusalCode
from nexus_stream.gateway.refusal import RequestRefusedError

FILES = sorted(Path(gateway.__path__[0]).glob("*.py"))


def calls() -> Iterator[tuple[str, ast.Call]]:
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "RequestRefusedError":
                yield f"{path.name}:{node.lineno}", node


def codes(node: ast.expr) -> Iterator[RefusalCode]:
    """Each code that an expression may be."""
    if isinstance(node, ast.IfExp):
        yield from codes(node.body)
        yield from codes(node.orelse)
    elif isinstance(node, ast.Constant):
        yield RefusalCode(node.value)
    elif isinstance(node, ast.Attribute):
        yield RefusalCode[node.attr]


CALLS = dict(calls())


@pytest.mark.parametrize("place", CALLS)
def test_a_refusal_has_a_listed_code_and_its_status(place: str) -> None:
    call = CALLS[place]
    (code,) = [keyword.value for keyword in call.keywords if keyword.arg == "code"]
    status = call.args[0]
    for found in codes(code):
        if isinstance(status, ast.Constant):
            assert found.status == status.value, place


def test_the_calls_are_found() -> None:
    assert len(CALLS) > 15


def test_a_code_is_text_and_has_a_refusals_status() -> None:
    for code in RefusalCode:
        assert f"{code}" == code.value == code.name.lower()
        assert 400 <= code.status <= 503


def test_the_body_names_the_code() -> None:
    refusal = RequestRefusedError(403, "No", {"a": "b"}, code=RefusalCode.TENANT_NEEDS_KEY)
    assert refusal.body == {"error": "No", "code": "tenant_needs_key", "details": {"a": "b"}}
    assert RequestRefusedError(403, "No", code="tenant_needs_key").body == {"error": "No", "code": "tenant_needs_key"}
