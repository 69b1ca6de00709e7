"""deploy/compose: what depends on what, what is reachable, what may be written."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml

from nexus_stream.settings import load_settings
from tests.deploy_files import DEPLOY, env_file, image_environment, interpolate

OURS = ("gateway", "enricher", "sink", "console", "topics", "migrate")


@pytest.mark.parametrize("name", OURS)
def test_ours_run_without_rights_and_write_only_to_volumes(compose: dict[str, Any], name: str) -> None:
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


def test_nobody_starts_before_what_it_needs(compose: dict[str, Any]) -> None:
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


def test_each_long_running_one_of_ours_is_asked_by_its_own_name(compose: dict[str, Any]) -> None:
    for name in ("gateway", "enricher", "sink", "console"):
        assert compose["services"][name]["healthcheck"]["test"] == ["CMD", "nexus", "healthcheck", name]


def test_the_enrichers_share_the_allowance(compose: dict[str, Any]) -> None:
    settings = load_settings(environ={**image_environment(), **env_file(DEPLOY / "compose" / "settings.env")})
    replicas = compose["services"]["enricher"]["deploy"]["replicas"]
    assert settings.claude_share * replicas == pytest.approx(1)
    assert replicas <= settings.topic_partitions


def test_volumes_are_declared_and_files_that_are_mounted_exist(compose: dict[str, Any]) -> None:
    for name, service in compose["services"].items():
        for volume in service.get("volumes", []):
            source = volume.partition(":")[0]
            if not source.startswith("."):
                assert source in compose["volumes"], name
            elif source != "./certificates":  # the operator's own
                assert (DEPLOY / "compose" / source).exists(), f"{name}: {source}"


@pytest.mark.parametrize("name", OURS)
def test_each_of_ours_can_read_the_certificates(compose: dict[str, Any], name: str) -> None:
    """All but `migrate` speak to Kafka, whose own authority they may have to know; three to the database."""
    assert "./certificates:/etc/nexus/certificates:ro" in compose["services"][name]["volumes"]
    commented = env_file(DEPLOY / "compose" / "settings.env", uncomment=True)["NEXUS_KAFKA_CA_FILE"]
    assert commented.startswith("/etc/nexus/certificates/")


def test_every_variable_it_fills_in_is_in_the_form_and_the_other_way_round(compose: dict[str, Any]) -> None:
    text = (DEPLOY / "compose" / "compose.yaml").read_text()
    used = set(re.findall(r"\$\{(\w+)", text))
    form = set(env_file(DEPLOY / "compose" / "env.example", uncomment=True))
    # A provider's preset, in the place of the lines on security.
    assert used - form <= {"NEXUS_KAFKA_PROVIDER"}
    assert form - used == {"COMPOSE_PROFILES"}
    assert compose["services"]["kafka"]["profiles"] == ["kafka"]


def test_a_secret_that_is_missing_stops_it_and_says_which(compose: dict[str, Any]) -> None:
    with pytest.raises(KeyError, match="SUPABASE_DB_URL: a postgresql"):
        interpolate(compose["services"]["sink"]["environment"]["SUPABASE_DB_URL"], {})
    assert interpolate("${MIGRATION_DB_URL:-${SUPABASE_DB_URL}}", {"SUPABASE_DB_URL": "a"}) == "a"
    assert (
        interpolate("${MIGRATION_DB_URL:-${SUPABASE_DB_URL}}", {"MIGRATION_DB_URL": "b", "SUPABASE_DB_URL": "a"}) == "b"
    )


def test_prometheus_reads_every_process_at_its_port(compose: dict[str, Any]) -> None:
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
