"""The environment and the ports that `nexus dev` gives its processes."""

import os
import socket
from pathlib import Path

import pytest

from nexus_stream.embedded.banner import banner
from nexus_stream.embedded.plan import (
    choose_ports,
    port_environment,
    process_environment,
    refuse_in_production,
    requested_ports,
    unused_variables,
    user_environment,
)
from nexus_stream.embedded.state import DevDirectory, DevInfo
from nexus_stream.errors import ConfigurationError
from nexus_stream.host.free_ports import LOOPBACK, free_port
from nexus_stream.providers import PROVIDERS, ProviderName
from nexus_stream.settings import Settings, load_settings
from tests.unit.test_providers import ENOUGH

_DSN = "postgresql://postgres@127.0.0.1:5/postgres"


def _environment(environ: dict[str, str]) -> dict[str, str]:
    return process_environment(
        environ, bootstrap_servers="127.0.0.1:4", database_url=_DSN, tables=Path("/tables"), programs=Path("/bin")
    )


def _settings(environ: dict[str, str]) -> Settings:
    return load_settings("sink", _environment(environ))


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


def test_sessions_settle_after_two_seconds_unless_the_user_sets_another_time() -> None:
    assert _settings({}).settle_seconds == 2
    assert _settings({"NEXUS_SETTLE_SECONDS": ""}).settle_seconds == 2
    assert _settings({"NEXUS_SETTLE_SECONDS": "0.5"}).settle_seconds == 0.5


def test_pages_of_this_machine_may_post_beside_the_users_own_origins() -> None:
    local = ("http://localhost:*", "http://127.0.0.1:*")
    assert _settings({}).gateway_allowed_origins == local
    own = _settings({"NEXUS_GATEWAY_ALLOWED_ORIGINS": "https://www.example.com"}).gateway_allowed_origins
    assert own == ("https://www.example.com", *local)


def test_the_banner_says_which_pages_may_post(tmp_path: Path) -> None:
    info = DevInfo("http://127.0.0.1:8080", "http://127.0.0.1:8090", _DSN, "127.0.0.1:4", "offline-rules-v1", {})
    text = banner(info, _settings({}), DevDirectory(root=tmp_path), 1.0, False)
    assert "pages may post from http://localhost:*, http://127.0.0.1:*" in text


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


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_providers_cluster_is_replaced_and_each_variable_is_reported(provider: ProviderName) -> None:
    login = {f"NEXUS_KAFKA_{name}": value for name, value in ENOUGH[provider].items()}
    theirs = {"NEXUS_KAFKA_PROVIDER": provider, **login}
    load_settings("tool", theirs)

    settings = _settings(theirs)

    assert settings.model_dump() == _settings({}).model_dump()
    assert unused_variables(theirs) == sorted(theirs)


def test_other_replaced_variables_are_reported() -> None:
    theirs = {
        "NEXUS_KAFKA_SASL_MECHANISM": "OAUTHBEARER",
        "NEXUS_KAFKA_OAUTH_TOKEN_FILE": "/run/secrets/token",
        "NEXUS_KAFKA_SESSION_TIMEOUT_SECONDS": "45",
        "NEXUS_DATA_DIR": "/var/lib/nexus-stream",
        "NEXUS_WEB_PORT": "6066",
        "NEXUS_WEB_HOST": "192.0.2.1",
    }

    assert _settings(theirs).model_dump() == _settings({}).model_dump()
    assert unused_variables(theirs) == sorted(theirs)


def test_every_replaced_variable_is_reported() -> None:
    """Each variable of the user reaches the processes unchanged, or its replacement is reported."""
    theirs = {f"NEXUS_{name.upper()}": "theirs" for name in Settings.model_fields} | {"SUPABASE_DB_URL": "theirs"}
    given = _environment(theirs)

    # The banner shows the allowed origins: the user's own stay in the list.
    replaced = {name for name in theirs if given[name] != "theirs"} - {"NEXUS_GATEWAY_ALLOWED_ORIGINS"}
    assert replaced - set(requested_ports(theirs)) == set(unused_variables(theirs))


def test_the_users_other_settings_are_used(monkeypatch) -> None:
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
    return [port for name in type(ports).__slots__ if (port := getattr(ports, name)) is not None]


def test_gateway_and_console_take_two_ports_for_their_metrics() -> None:
    said: list[str] = []
    base = _free_base()
    environ = {"NEXUS_METRICS_PORT": str(base + 2)}

    ports = choose_ports({**environ, "PORT": str(base), "NEXUS_CONSOLE_PORT": str(base + 1)}, None, said.append)

    assert (ports.gateway_metrics, ports.console_metrics) == (base + 2, base + 3)
    assert len(set(_all_ports(ports))) == 8
    assert any(str(base + 2) in line and str(base + 3) in line for line in said)
    given = {
        role: load_settings("sink", {**_environment(environ), **own}) for role, own in port_environment(ports).items()
    }
    assert (given["gateway"].metrics_port, given["console"].metrics_port) == (base + 2, base + 3)
    assert (given["enricher"].metrics_port, given["sink"].metrics_port) == (None, None)


@pytest.mark.parametrize("asked", ["0", "65535"])
def test_metrics_ports_at_the_ends_of_the_range(asked) -> None:
    ports = choose_ports({"NEXUS_METRICS_PORT": asked}, None, lambda _: None)

    assert asked == "0" or ports.gateway_metrics == 65_535
    assert 0 < ports.gateway_metrics != ports.console_metrics > 0


def test_without_a_metrics_port_no_process_serves_metrics() -> None:
    ports = choose_ports({}, _free_base(), print)

    given = {role: load_settings("sink", {**_environment({}), **own}) for role, own in port_environment(ports).items()}
    assert {settings.metrics_port for settings in given.values()} == {None}


@pytest.mark.parametrize("asked", ["base", "PORT"])
def test_a_requested_port_that_is_taken_is_named_with_its_owner(asked) -> None:
    with socket.socket() as listener:
        listener.bind((LOOPBACK, 0))
        listener.listen()
        port = listener.getsockname()[1]

        with pytest.raises(ConfigurationError, match=rf"Port {port}.*gateway.*pid {os.getpid()}"):
            choose_ports({"PORT": str(port)} if asked == "PORT" else {}, port if asked == "base" else None, print)


def test_a_default_port_that_is_taken_is_replaced_and_reported(monkeypatch) -> None:
    said: list[str] = []
    with socket.socket() as listener:
        listener.bind((LOOPBACK, 0))
        listener.listen()
        port = listener.getsockname()[1]
        monkeypatch.setattr("nexus_stream.embedded.plan.GATEWAY_PORT", port)

        ports = choose_ports({}, None, said.append)

    assert ports.gateway != port
    assert any(f"port {port} is taken by" in line and str(ports.gateway) in line for line in said)
