"""The examples in deploy/platforms parse and agree with the settings. The platforms' own tools are not run."""

from __future__ import annotations

import json
import shlex
import tomllib
from typing import Any

import pytest
import yaml

from nexus_stream.embedded.procfile import read_procfile
from nexus_stream.settings import Settings, load_settings
from tests.deploy_files import DEPLOY, ROOT, image_environment, role_of

PLATFORMS = DEPLOY / "platforms"
# The longest time between SIGTERM and SIGKILL, from the platforms' documents (docs/howto/deploy.md).
FLY_MAX_SECONDS = 300
RENDER_MAX_SECONDS = 300
HEROKU_SECONDS = 30
# Shorter than in test_processes.py: Heroku allows no more.
STOPPING_SECONDS = 10
SECRETS = {
    "NEXUS_KAFKA_USERNAME": "user",
    "NEXUS_KAFKA_PASSWORD": "word",
    "ANTHROPIC_API_KEY": "key",
    "NEXUS_CONSOLE_TOKEN": "0123456789abcdef",
    "SUPABASE_DB_URL": "postgresql://user:word@db.example.com/postgres?sslmode=verify-full",
}


def settings_with(command: str, variables: dict[str, str], *secrets: str) -> Settings:
    """The settings of a process that this command starts. The command must be one of the Procfile."""
    argv = shlex.split(command.removeprefix("exec "))
    role = role_of(tuple(argv))
    assert role != "tool", command
    assert argv == read_procfile()[role].argv({})
    return load_settings(role, {**image_environment(), **variables, **{name: SECRETS[name] for name in secrets}})


def test_fly() -> None:
    document = tomllib.loads((PLATFORMS / "fly.toml").read_text())
    assert (ROOT / document["build"]["dockerfile"]).is_file()
    assert document["kill_signal"] == "SIGTERM"
    for command in document["processes"].values():
        settings = settings_with(command, document["env"], *SECRETS)
        assert settings.stop_timeout_seconds + STOPPING_SECONDS < document["kill_timeout"] <= FLY_MAX_SECONDS
    service = document["http_service"]
    assert service["processes"] == ["gateway"]
    gateway = settings_with(document["processes"]["gateway"], document["env"], *SECRETS)
    assert service["internal_port"] == gateway.port
    assert service["auto_stop_machines"] == "off"
    assert document["checks"]["workers"]["port"] == gateway.web_port
    (mount,) = document["mounts"]
    assert mount["destination"] == str(gateway.data_dir)
    named = [name for part in (*document["vm"], *document["mounts"]) for name in part["processes"]]
    assert set(named) == set(document["processes"])
    _is_setup(document["deploy"]["release_command"])


def test_render() -> None:
    document = yaml.safe_load((PLATFORMS / "render.yaml").read_text())
    (group,) = document["envVarGroups"]
    shared = {entry["key"]: entry["value"] for entry in group["envVars"]}
    services = {service["name"]: service for service in document["services"]}
    assert set(services) == {"nexus-gateway", "nexus-enricher", "nexus-sink", "nexus-console"}
    for name, service in services.items():
        own = [entry for entry in service["envVars"] if "key" in entry]
        assert {"fromGroup": group["name"]} in service["envVars"]
        plain = {entry["key"]: entry["value"] for entry in own if "value" in entry}
        secrets = [entry["key"] for entry in own if entry.get("sync") is False]
        # Render sets PORT for public services.
        port = {"PORT": "10000"} if service["type"] == "web" else {}
        settings = settings_with(service["dockerCommand"], {**shared, **plain, **port}, *secrets)
        assert (ROOT / service["dockerfilePath"]).is_file()
        bound = settings.stop_timeout_seconds if service["type"] == "worker" else settings.gateway_stop_seconds
        assert bound + STOPPING_SECONDS < service["maxShutdownDelaySeconds"] <= RENDER_MAX_SECONDS
        if service["type"] == "web":
            assert service["healthCheckPath"] == "/live"
            assert 10000 in {settings.port, settings.console_port}
        if name == "nexus-enricher":
            assert settings.claude_share * service["numInstances"] == pytest.approx(1)
    _is_setup(services["nexus-gateway"]["preDeployCommand"])


def test_heroku() -> None:
    document = yaml.safe_load((PLATFORMS / "heroku.yml").read_text())
    variables: dict[str, str] = document["setup"]["config"]
    assert (ROOT / document["build"]["docker"]["web"]).is_file()
    roles = {}
    for name, process in document["run"].items():
        (command,) = process["command"]
        # Process 1 is a shell on Heroku. Without exec it would not forward SIGTERM.
        assert command.startswith("exec ")
        settings = settings_with(command, {**variables, "PORT": "12345"}, *SECRETS)
        bound = max(settings.stop_timeout_seconds, settings.gateway_stop_seconds)
        assert bound + STOPPING_SECONDS < HEROKU_SECONDS
        roles[name] = role_of(tuple(command.split()))
    assert roles == {"web": "gateway", "enricher": "enricher", "sink": "sink"}
    _is_setup(document["release"]["command"][0])


def test_railway() -> None:
    document: dict[str, Any] = json.loads((PLATFORMS / "railway.json").read_text())
    deploy = document["deploy"]
    settings = settings_with(deploy["startCommand"], {"PORT": "12345"})
    assert (ROOT / document["build"]["dockerfilePath"]).is_file()
    # Numbers: Railway's parser refuses the strings that its documents show.
    assert isinstance(deploy["drainingSeconds"], int)
    assert deploy["drainingSeconds"] > settings.stop_timeout_seconds + STOPPING_SECONDS
    assert deploy["healthcheckPath"] == "/live"
    _is_setup(deploy["preDeployCommand"][0])


def _is_setup(command: str) -> None:
    """Topics first: if they differ, the database is not changed."""
    assert command.removeprefix("sh -c ").strip("'") == "nexus topics apply && nexus migrate"
