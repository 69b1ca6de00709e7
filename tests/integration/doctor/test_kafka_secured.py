"""The doctor on Apache Kafka with TLS, SASL and ACLs: refused logins, missing permissions, the cluster's options."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nexus_stream.doctor.command import examine_environment
from nexus_stream.doctor.finding import DoctorReport
from nexus_stream.kafka.permissions import permissions
from nexus_stream.kafka.topics import apply_topics
from nexus_stream.settings import Role, load_settings
from tests.kafka.launcher import KafkaCluster, SecurityOptions, available
from tests.support.certificates import CertificateAuthority
from tests.support.requirements import require

pytestmark = pytest.mark.timeout(300)

_GATEWAY = ("doctor-gateway", "a-gateways-password")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaCluster]:
    require("kafka", available())
    options = {"connections.max.idle.ms": "60000"}
    security = SecurityOptions(plain_users={})
    folder = tmp_path_factory.mktemp("kafka")
    with KafkaCluster.start(data_dir=folder, overrides=options, security=security) as running:
        certificate, key = running.client_certificate("kafka-admin")
        administrator = load_settings(
            environ={
                "NEXUS_KAFKA_BOOTSTRAP_SERVERS": running.mtls_bootstrap_servers,
                "NEXUS_KAFKA_SECURITY_PROTOCOL": "SSL",
                "NEXUS_KAFKA_CA_FILE": str(running.ca_file),
                "NEXUS_KAFKA_CLIENT_CERT_FILE": str(certificate),
                "NEXUS_KAFKA_CLIENT_KEY_FILE": str(key),
            }
        )
        asyncio.run(apply_topics(administrator))
        name, password = _GATEWAY
        running.admin.add_user(name, password, "SCRAM-SHA-256")
        running.admin.add_acls(f"User:{name}", permissions(administrator, "gateway"))
        yield running


@pytest.fixture
def environ(cluster: KafkaCluster, tmp_path: Path) -> dict[str, str]:
    name, password = _GATEWAY
    return {
        "NEXUS_ENV": "test",
        "NEXUS_KAFKA_BOOTSTRAP_SERVERS": cluster.bootstrap_servers,
        "NEXUS_KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
        "NEXUS_KAFKA_SASL_MECHANISM": "SCRAM-SHA-256",
        "NEXUS_KAFKA_CA_FILE": str(cluster.ca_file),
        "NEXUS_KAFKA_USERNAME": name,
        "NEXUS_KAFKA_PASSWORD": password,
        "NEXUS_DATA_DIR": str(tmp_path / "data"),
    }


def _examine(environ: dict[str, str], *roles: Role, **changes: str) -> DoctorReport:
    return examine_environment(frozenset(roles), environ={**environ, **changes})


def test_a_gateways_login_may_do_what_a_gateway_needs(environ: dict[str, str], finding: Any) -> None:
    report = _examine(environ, "gateway")

    assert finding(report, "kafka.reachable").severity == "ok"
    assert finding(report, "kafka.permissions").severity == "ok"
    assert finding(report, "kafka.topics").severity == "ok"
    assert report.exit_code(strict=False) == 0


def test_missing_permissions_are_reported_with_the_commands_that_grant_them(
    environ: dict[str, str], finding: Any
) -> None:
    report = _examine(environ, "sink", SUPABASE_DB_URL="postgresql://sink@127.0.0.1:1/postgres")

    denied = finding(report, "kafka.permissions")
    assert denied.severity == "error"
    assert "User:doctor-gateway lacks permissions that the sink needs" in denied.found
    assert "--topic prospects-enriched" in denied.fix
    assert "--group nexus-sink" in denied.fix
    assert finding(report, "kafka.group_forbidden").severity == "error"
    unseen = [each.found for each in report.findings if each.check == "kafka.topic_forbidden"]
    # Not "missing": they are there.
    assert len(unseen) == 2
    assert not any(each.check == "kafka.topic_missing" for each in report.findings)


def test_a_wrong_password(environ: dict[str, str], finding: Any) -> None:
    report = _examine(environ, "gateway", NEXUS_KAFKA_PASSWORD="another-password")

    found = finding(report, "kafka.reachable")
    assert "refuses the login (SCRAM-SHA-256)" in found.found
    assert "NEXUS_KAFKA_PASSWORD" in found.fix
    assert report.exit_code(strict=False) == 1


def test_a_wrong_authority(environ: dict[str, str], finding: Any, tmp_path: Path) -> None:
    other = CertificateAuthority.make(tmp_path / "other", "other-ca")

    report = _examine(environ, "gateway", NEXUS_KAFKA_CA_FILE=str(other.certificate))

    assert finding(report, "kafka.reachable").fix.startswith("NEXUS_KAFKA_CA_FILE")


def test_tls_without_the_login(environ: dict[str, str], finding: Any) -> None:
    report = _examine(environ, "gateway", NEXUS_KAFKA_SECURITY_PROTOCOL="SSL")

    found = finding(report, "kafka.reachable")
    assert "requires a login (SASL)" in found.found
    assert "NEXUS_KAFKA_SECURITY_PROTOCOL=SASL_SSL" in found.fix


def test_no_client_certificate_where_one_is_needed(
    environ: dict[str, str], cluster: KafkaCluster, finding: Any
) -> None:
    report = _examine(
        environ,
        "gateway",
        NEXUS_KAFKA_BOOTSTRAP_SERVERS=cluster.mtls_bootstrap_servers,
        NEXUS_KAFKA_SECURITY_PROTOCOL="SSL",
    )

    found = finding(report, "kafka.reachable")
    assert found.severity == "error"
    assert "NEXUS_KAFKA_CLIENT_CERT_FILE" in found.fix


def test_the_brokers_options_and_the_topics_copies(
    environ: dict[str, str], cluster: KafkaCluster, finding: Any
) -> None:
    certificate, key = cluster.client_certificate("kafka-admin")
    report = _examine(
        environ,
        "gateway",
        NEXUS_ENV="production",
        NEXUS_KAFKA_BOOTSTRAP_SERVERS=cluster.mtls_bootstrap_servers,
        NEXUS_KAFKA_SECURITY_PROTOCOL="SSL",
        NEXUS_KAFKA_CLIENT_CERT_FILE=str(certificate),
        NEXUS_KAFKA_CLIENT_KEY_FILE=str(key),
        NEXUS_KAFKA_SESSION_TIMEOUT_SECONDS="7200",
    )

    assert finding(report, "kafka.idle").fix == "NEXUS_KAFKA_CONNECTIONS_MAX_IDLE_SECONDS=54"
    assert finding(report, "kafka.session_timeout").severity == "error"
    assert finding(report, "kafka.cluster").severity == "warning"
    copies = [each for each in report.findings if each.check == "kafka.topic_replication"]
    assert len(copies) == 2
    assert all(each.severity == "error" and "has 1 copies" in each.found for each in copies)
