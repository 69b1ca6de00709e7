"""No secret is in any output: every secret setting contains a marker, and the tests search all output for it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from nexus_stream.doctor.command import command
from nexus_stream.settings import Settings, _variables, load_settings

if TYPE_CHECKING:
    from tests.integration.doctor.conftest import Doctor

_MARK = "Tr0ub4dor"


def _secrets() -> dict[str, str]:
    """Variable -> a value with the marker in it, for every secret there is."""
    special = {
        "database_url": f"postgresql://sink:{_MARK}%40db@127.0.0.1:1/postgres",
        "redis_url": f"redis://:{_MARK}redis@127.0.0.1:1/0",
        "anthropic_api_key": f"sk-ant-{_MARK}",
        "alert_webhook_url": f"https://hooks.example.com/{_MARK}",
        # A hash alone is kept of a key. The marker is no hex, so it has no place there.
        "gateway_server_keys": f"web:sha256:{'a' * 64}",
        "gateway_identity_secrets": f"web:{_MARK}-identity-0123456789",
        # Base64, so that the marker stands in it as written.
        "alert_webhook_secret": f"whsec_{_MARK}{'A' * 39}",
    }
    secrets: dict[str, str] = {}
    for variable, field_name in _variables().items():
        annotation = Settings.model_fields[field_name].annotation
        if "SecretStr" in str(annotation) and field_name not in {_variables()[name] for name in secrets}:
            secrets[variable] = special.get(field_name, f"{_MARK}-{field_name}-0123456789")
    return secrets


def test_the_list_of_secrets_is_complete() -> None:
    assert {"SUPABASE_DB_URL", "NEXUS_KAFKA_PASSWORD", "ANTHROPIC_API_KEY", "NEXUS_REDIS_URL"} <= set(_secrets())


def test_all_of_them_together_are_a_valid_configuration() -> None:
    # Otherwise the tests below would only see an invalid configuration.
    assert load_settings(environ=_secrets())


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"NEXUS_KAFKA_SECURITY_PROTOCOL": "SASL_PLAINTEXT", "NEXUS_KAFKA_USERNAME": "sink"},
        {"NEXUS_KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1", "NEXUS_ENV": "production"},
        {"NEXUS_SETTLE_SECONDS": "x"},
        # Badly escaped, which shifts what is the host and what the password.
        {"SUPABASE_DB_URL": f"postgresql://sink:p#{_MARK}@127.0.0.1:1/postgres"},
        {"SUPABASE_DB_URL": f"postgresql://sink:p@{_MARK}@127.0.0.1:1/postgres"},
        {"SUPABASE_DB_URL": f"{_MARK}"},
        {"NEXUS_REDIS_URL": f"redis://:p@{_MARK}:notaport/0"},
        {"ANTHROPIC_API_KEY": f"sk-ant-{_MARK} with a space"},
    ],
    ids=range(9),
)
def test_no_secret_is_printed(
    without_database: Doctor, changes: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in os.environ if name.startswith("NEXUS_")]:
        monkeypatch.delenv(name)
    environ = {**without_database.environ, **_secrets(), "ANTHROPIC_BASE_URL": "http://127.0.0.1:1", **changes}
    for arguments in ([], ["--json"]):
        # In this process: the interpreter's start would take longer than all the rest.
        done = CliRunner().invoke(command, arguments, env=environ)

        assert done.exit_code in {1, 78}, done.output
        assert isinstance(done.exception, SystemExit)
        assert _MARK not in done.stdout + done.stderr


def test_the_program_prints_no_secret(without_database: Doctor) -> None:
    done = without_database.run(**_secrets(), ANTHROPIC_BASE_URL="http://127.0.0.1:1")

    assert done.returncode == 1
    assert _MARK not in done.stdout + done.stderr
    assert done.stderr == ""
