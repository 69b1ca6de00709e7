"""Rules for every process in deploy/: variables are settings, probes use the right ports, there is time to stop."""

from __future__ import annotations

from typing import Any

from nexus_stream.embedded.procfile import read_procfile
from nexus_stream.observability.healthcheck_command import address_of
from nexus_stream.settings import load_settings
from tests.deploy_files import Process, compose_processes, image_environment, kubernetes_processes, kustomized

# Time to stop beyond the limit in the settings: last acknowledgements, commits, leaving the group.
STOPPING_SECONDS = 15


def test_its_environment_is_a_valid_configuration(process: Process) -> None:
    """An unknown variable, a value out of range or a broken rule between settings would stop the start."""
    settings = load_settings(process.role, process.environment)
    if "systemd" not in process.name and ".service" not in process.name:
        assert settings.env == "production"


def test_its_command_is_the_procfiles(worker: Process) -> None:
    assert worker.role != "tool"
    line = read_procfile()[worker.role].argv({})
    assert list(worker.argv[1:]) == line[1:]
    assert worker.argv[0].rpartition("/")[2] == line[0]


def test_it_has_time_to_stop(worker: Process) -> None:
    settings = load_settings(worker.role, worker.environment)
    bound_seconds = {"gateway": settings.gateway_stop_seconds, "console": 5.0}.get(
        worker.role, settings.stop_timeout_seconds
    )
    assert worker.grace_seconds >= bound_seconds + STOPPING_SECONDS


def test_its_memory_is_bounded(worker: Process) -> None:
    assert worker.memory_limited


def test_its_probes_use_its_health_port(worker: Process) -> None:
    settings = load_settings(worker.role, worker.environment)
    address = address_of(worker.role, settings)  # type: ignore[arg-type] - a worker's role is a process type
    if worker.probes:
        assert {port: set(paths) for port, paths in worker.probes.items()} == {
            int(address.rpartition(":")[2]): {"/live", "/ready"}
        }


def test_its_metrics_can_be_read(worker: Process) -> None:
    settings = load_settings(worker.role, worker.environment)
    if worker.role in {"gateway", "console"}:
        assert settings.metrics_port
    else:
        assert settings.web_port


def test_no_process_holds_a_secret_that_it_does_not_use(compose: dict[str, Any]) -> None:
    """For example, the public gateway holds no database login."""
    variables = dict.fromkeys(("ANTHROPIC_API_KEY", "SUPABASE_DB_URL"), "set-to-something-16")
    variables |= {"NEXUS_CONSOLE_TOKEN": "a-token-of-16-chars"}
    processes = [
        *compose_processes(compose, variables),
        *kubernetes_processes([*kustomized("base"), *kustomized("setup")]),
    ]
    uses = {
        "ANTHROPIC_API_KEY": {"enricher"},
        "SUPABASE_DB_URL": {"sink", "console", "migrate"},
        "NEXUS_CONSOLE_TOKEN": {"console"},
    }
    for secret, users in uses.items():
        holders = {item.name.rpartition("/")[2] for item in processes if item.environment.get(secret)}
        assert holders == users, secret


def test_the_image_listens_where_other_machines_reach_it() -> None:
    settings = load_settings("tool", image_environment())
    assert {settings.gateway_host, settings.web_host, settings.console_host, settings.metrics_host} == {"0.0.0.0"}
    assert settings.web_port != 0
