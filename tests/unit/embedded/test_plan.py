"""What `nexus dev` gives its processes."""

import os
import socket
from pathlib import Path

import pytest

from nexus_stream.embedded.plan import (
    choose_ports,
    port_environment,
    process_environment,
    refuse_in_production,
    unused_variables,
    user_environment,
)
from nexus_stream.embedded.ports import LOOPBACK, free_port
from nexus_stream.errors import ConfigurationError
from nexus_stream.settings import Settings, load_settings

_DSN = "postgresql://postgres@127.0.0.1:5/postgres"


def _settings(environ: dict[str, str]) -> Settings:
    environment = process_environment(
        environ, bootstrap_servers="127.0.0.1:4", database_url=_DSN, tables=Path("/tables"), programs=Path("/bin")
    )
    return load_settings("sink", environment)


def _free_base() -> int:
    while True:
        base = free_port()
        try:
            for offset in range(4):
                with socket.socket() as probe:
                    probe.bind((LOOPBACK, base + offset))
        except OSError:
            continue
        return base


def test_sessions_settle_after_two_seconds_unless_the_user_says_otherwise() -> None:
    assert _settings({}).settle_seconds == 2
    assert _settings({"NEXUS_SETTLE_SECONDS": ""}).settle_seconds == 2
    assert _settings({"NEXUS_SETTLE_SECONDS": "0.5"}).settle_seconds == 0.5


def test_the_users_cluster_and_database_are_never_used() -> None:
    theirs = {
        "NEXUS_KAFKA_BOOTSTRAP_SERVERS": "kafka.example.com:9092",
        "NEXUS_KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
        "NEXUS_KAFKA_USERNAME": "somebody",
        "NEXUS_KAFKA_PASSWORD": "secret",
        "NEXUS_TOPIC_REPLICATION_FACTOR": "3",
        "NEXUS_DATABASE_URL": "postgresql://db.example.com/postgres",
        "SUPABASE_DB_URL": "postgresql://db.example.com/postgres",
    }

    settings = _settings(theirs)

    assert settings.kafka_bootstrap_servers == "127.0.0.1:4"
    assert settings.kafka_security_protocol == "PLAINTEXT"
    assert settings.kafka_username is None
    assert settings.topic_replication_factor == 1
    assert settings.database_url is not None
    assert settings.database_url.get_secret_value() == _DSN
    assert unused_variables(theirs) == sorted(theirs)
    assert unused_variables({}) == []


def test_the_users_other_settings_are(monkeypatch) -> None:
    settings = _settings({"ANTHROPIC_API_KEY": "not-a-key", "NEXUS_TOPIC_PARTITIONS": "4"})

    assert settings.use_claude
    assert settings.topic_partitions == 4


def test_the_env_file_counts_and_the_environment_wins(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path(".env").write_text("NEXUS_SETTLE_SECONDS=7\nNEXUS_TOPIC_PARTITIONS=9\n")
    monkeypatch.setenv("NEXUS_TOPIC_PARTITIONS", "3")
    monkeypatch.delenv("NEXUS_SETTLE_SECONDS", raising=False)

    environ = user_environment()

    assert environ["NEXUS_SETTLE_SECONDS"] == "7"
    assert environ["NEXUS_TOPIC_PARTITIONS"] == "3"


def test_a_ports_variable_reaches_only_its_process() -> None:
    ports = choose_ports({}, _free_base(), print)
    environment = process_environment(
        {"PORT": "1", "NEXUS_WEB_PORT": "2", "NEXUS_GATEWAY_PORT": "3"},
        bootstrap_servers="127.0.0.1:4",
        database_url=_DSN,
        tables=Path("/tables"),
        programs=Path("/bin"),
    )
    own = port_environment(ports)

    assert load_settings("gateway", {**environment, **own["gateway"]}).port == ports.gateway
    assert load_settings("console", {**environment, **own["console"]}).console_port == ports.console
    assert load_settings("sink", {**environment, **own["sink"]}).web_port == ports.sink_web
    assert load_settings("enricher", {**environment, **own["enricher"]}).port == Settings.model_fields["port"].default


def test_the_environments_own_programs_are_found_first() -> None:
    environment = process_environment(
        {"PATH": "/usr/bin"}, bootstrap_servers="x:1", database_url=_DSN, tables=Path("/t"), programs=Path("/venv/bin")
    )

    assert environment["PATH"] == f"/venv/bin{os.pathsep}/usr/bin"


@pytest.mark.parametrize("value", ["production", " Production "])
def test_production_is_refused(value) -> None:
    with pytest.raises(ConfigurationError, match="NEXUS_ENV=production"):
        refuse_in_production({"NEXUS_ENV": value})
    refuse_in_production({"NEXUS_ENV": "development"})


def test_a_port_base_gives_four_ports_in_a_row() -> None:
    base = _free_base()

    ports = choose_ports({}, base, print)

    assert (ports.gateway, ports.console, ports.broker, ports.database) == (base, base + 1, base + 2, base + 3)
    assert len(set(_all_ports(ports))) == 6


def _all_ports(ports) -> list[int]:
    return [getattr(ports, name) for name in type(ports).__slots__]


@pytest.mark.parametrize("asked", ["base", "PORT"])
def test_a_taken_port_that_was_asked_for_is_named_with_its_owner(asked) -> None:
    with socket.socket() as listener:
        listener.bind((LOOPBACK, 0))
        listener.listen()
        port = listener.getsockname()[1]

        with pytest.raises(ConfigurationError, match=rf"Port {port}.*gateway.*pid {os.getpid()}"):
            choose_ports({"PORT": str(port)} if asked == "PORT" else {}, port if asked == "base" else None, print)


def test_a_taken_port_of_our_own_choosing_is_replaced_and_said(monkeypatch) -> None:
    said: list[str] = []
    with socket.socket() as listener:
        listener.bind((LOOPBACK, 0))
        listener.listen()
        port = listener.getsockname()[1]
        monkeypatch.setattr("nexus_stream.embedded.plan.GATEWAY_PORT", port)

        ports = choose_ports({}, None, said.append)

    assert ports.gateway != port
    assert any(f"port {port} is taken by" in line and str(ports.gateway) in line for line in said)
