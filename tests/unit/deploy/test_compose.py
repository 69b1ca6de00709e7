"""deploy/compose: dependencies, published ports and writable folders."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml

from nexus_stream.settings import load_settings
from tests.deploy_files import DEPLOY, env_file, image_environment, interpolate

OWN_SERVICES = ("gateway", "enricher", "sink", "console", "topics", "migrate")


@pytest.mark.parametrize("name", OWN_SERVICES)
def test_own_services_run_unprivileged_and_write_only_to_volumes(compose: dict[str, Any], name: str) -> None:
    service = compose["services"][name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in service["security_opt"]
    assert service["image"] == compose["services"]["gateway"]["image"]


def test_only_the_gateway_is_reachable_from_other_machines(compose: dict[str, Any]) -> None:
    published = {
        name: interpolate(port, {})
        for name, service in compose["services"].items()
        for port in service.get("ports", [])
    }
    assert published.pop("gateway") == "8080:8080"
    assert published
    assert all(port.startswith("127.0.0.1:") for port in published.values())


def test_services_start_after_their_dependencies(compose: dict[str, Any]) -> None:
    for name in ("gateway", "enricher", "sink", "console"):
        condition = compose["services"][name]["depends_on"]["topics"]["condition"]
        assert condition == "service_completed_successfully", name
    assert compose["services"]["sink"]["depends_on"]["migrate"]["condition"] == "service_completed_successfully"
    for one_shot, part in (("topics", "kafka"), ("migrate", "postgres")):
        needs = compose["services"][one_shot]["depends_on"][part]
        assert needs == {"condition": "service_healthy", "required": False}
        assert compose["services"][part]["profiles"] == [part]
        assert compose["services"][part]["healthcheck"]["test"]
        assert compose["services"][one_shot]["restart"] == "no"


def test_each_long_running_service_has_the_health_check_of_its_type(compose: dict[str, Any]) -> None:
    for name in ("gateway", "enricher", "sink", "console"):
        assert compose["services"][name]["healthcheck"]["test"] == ["CMD", "nexus", "healthcheck", name]


def test_the_shares_of_the_enrichers_sum_to_one(compose: dict[str, Any]) -> None:
    settings = load_settings(environ={**image_environment(), **env_file(DEPLOY / "compose" / "settings.env")})
    replicas = compose["services"]["enricher"]["deploy"]["replicas"]
    assert settings.claude_share * replicas == pytest.approx(1)
    assert replicas <= settings.topic_partitions


def test_volumes_are_declared_and_mounted_files_exist(compose: dict[str, Any]) -> None:
    for name, service in compose["services"].items():
        for volume in service.get("volumes", []):
            source = volume.partition(":")[0]
            if not source.startswith("."):
                assert source in compose["volumes"], name
            elif source != "./certificates":  # the operator's own
                assert (DEPLOY / "compose" / source).exists(), f"{name}: {source}"


@pytest.mark.parametrize("name", OWN_SERVICES)
def test_each_own_service_can_read_the_certificates(compose: dict[str, Any], name: str) -> None:
    """All except `migrate` connect to Kafka, and three to the database. Both may have a private CA."""
    assert "./certificates:/etc/nexus/certificates:ro" in compose["services"][name]["volumes"]
    commented = env_file(DEPLOY / "compose" / "settings.env", uncomment=True)["NEXUS_KAFKA_CA_FILE"]
    assert commented.startswith("/etc/nexus/certificates/")


def test_compose_and_env_example_have_the_same_variables(compose: dict[str, Any]) -> None:
    text = (DEPLOY / "compose" / "compose.yaml").read_text()
    used = set(re.findall(r"\$\{(\w+)", text))
    form = set(env_file(DEPLOY / "compose" / "env.example", uncomment=True))
    # The preset of a provider replaces the security variables.
    assert used - form <= {"NEXUS_KAFKA_PROVIDER"}
    assert form - used == {"COMPOSE_PROFILES"}
    assert compose["services"]["kafka"]["profiles"] == ["kafka"]


def test_a_missing_secret_stops_it_with_its_name(compose: dict[str, Any]) -> None:
    with pytest.raises(KeyError, match="SUPABASE_DB_URL: a postgresql"):
        interpolate(compose["services"]["sink"]["environment"]["SUPABASE_DB_URL"], {})
    assert interpolate("${MIGRATION_DB_URL:-${SUPABASE_DB_URL}}", {"SUPABASE_DB_URL": "a"}) == "a"
    assert (
        interpolate("${MIGRATION_DB_URL:-${SUPABASE_DB_URL}}", {"MIGRATION_DB_URL": "b", "SUPABASE_DB_URL": "a"}) == "b"
    )


def test_prometheus_scrapes_every_process_at_its_port(compose: dict[str, Any]) -> None:
    document = yaml.safe_load((DEPLOY / "compose" / "prometheus.yml").read_text())
    settings = load_settings(environ=image_environment())
    ports = {"gateway": settings.metrics_port, "console": settings.metrics_port}
    for job in document["scrape_configs"]:
        (discovery,) = job["dns_sd_configs"]
        (name,) = discovery["names"]
        assert job["job_name"] == f"nexus-{name}"
        assert name in compose["services"]
        assert discovery["port"] == ports.get(name, settings.web_port)
    assert len(document["scrape_configs"]) == 4
    folder = compose["services"]["prometheus"]["volumes"][1].partition(":")[0]
    assert list((DEPLOY / "compose" / folder).glob("*.rules.yml"))
