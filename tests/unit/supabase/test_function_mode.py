"""The meaning of update_prospect_data's answers, and the choice of the function to call."""

from __future__ import annotations

import json
from typing import Any

import pytest

from nexus_stream.errors import ConfigurationError
from nexus_stream.settings import load_settings
from nexus_stream.supabase.function_mode import require_success
from nexus_stream.supabase.sqlstates import Failure, RefusedCallError, classify


@pytest.mark.parametrize("answer", [{"success": True}, {"success": "true"}, {}, {"success": None}, None, True, [False]])
def test_an_answer_without_failure_is_a_success(answer: Any) -> None:
    require_success(json.dumps(answer))
    require_success(None)


@pytest.mark.parametrize(
    ("answer", "failure"),
    [
        ({}, Failure.BAD_ROW),
        ({"error": "we do not like it"}, Failure.BAD_ROW),
        ({"error": 'duplicate key value violates unique constraint "x"'}, Failure.BAD_ROW),
        ({"error": "deadlock detected"}, Failure.TRANSIENT),
        ({"message": "canceling statement due to lock timeout"}, Failure.TRANSIENT),
        ({"error": "cannot execute INSERT in a read-only transaction"}, Failure.TRANSIENT),
        ({"error": "canceling statement due to statement timeout"}, Failure.SMALLER_BATCH),
        ({"error": "permission denied for table x"}, Failure.CONFIGURATION),
        ({"error": 'column "x" of relation "y" does not exist'}, Failure.CONFIGURATION),
        ({"error": "no", "sqlstate": "40P01"}, Failure.TRANSIENT),
        ({"error": "deadlock detected", "code": "23505"}, Failure.BAD_ROW),
        ({"error": "no", "code": "not a code"}, Failure.BAD_ROW),
        ({"error": "no", "code": "ZZ999"}, Failure.BAD_ROW),
    ],
)
def test_a_failed_answer_is_classified_by_its_content(answer: dict[str, Any], failure: Failure) -> None:
    with pytest.raises(RefusedCallError) as raised:
        require_success(json.dumps({"success": False, **answer}))
    assert classify(raised.value) is failure
    # The answer may quote a row.
    assert "we do not like it" not in str(raised.value)


def test_tenants_are_mapped_by_a_setting() -> None:
    one, two = "6f1f3c1e-0000-4000-8000-000000000001", "6f1f3c1e-0000-4000-8000-000000000002"
    settings = load_settings(environ={"NEXUS_TENANT_CONSTRUCTORS": f"acme={one}, ={two}"})
    assert {tenant: str(constructor) for tenant, constructor in settings.tenant_constructors.items()} == {
        "acme": one,
        "": two,
    }
    for wrong in ("acme", "acme=x", f"acme={one},acme={two}"):
        with pytest.raises(ConfigurationError, match="NEXUS_TENANT_CONSTRUCTORS"):
            load_settings(environ={"NEXUS_TENANT_CONSTRUCTORS": wrong})
