"""Real faults of the broker, each with its finding and its fix. Secured clusters: test_kafka_secured.py."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from nexus_stream.host.free_ports import LOOPBACK, free_port
from tests.support.certificates import CertificateAuthority

if TYPE_CHECKING:
    from tests.integration.doctor.conftest import Doctor

_WAIT_SECONDS = 60


def test_a_port_where_nothing_listens(without_database: Doctor, finding: Any) -> None:
    port = free_port()

    report = without_database.examine(NEXUS_KAFKA_BOOTSTRAP_SERVERS=f"{LOOPBACK}:{port}")

    found = finding(report, "kafka.reachable")
    assert found.severity == "error"
    assert found.found == f"{LOOPBACK}:{port}: connection refused"
    assert "NEXUS_KAFKA_BOOTSTRAP_SERVERS" in found.fix
    assert report.exit_code(strict=False) == 1
    # The other areas were checked anyway.
    assert finding(report, "host.data_dir").severity == "ok"


def test_a_name_that_does_not_resolve(without_database: Doctor, finding: Any) -> None:
    report = without_database.examine(NEXUS_KAFKA_BOOTSTRAP_SERVERS="kafka.invalid:9092")

    assert "kafka.invalid:9092" in finding(report, "kafka.reachable").found
    assert report.exit_code(strict=False) == 1


def test_one_of_two_bootstrap_servers_down_is_a_warning(without_database: Doctor, finding: Any) -> None:
    both = f"{without_database.environ['NEXUS_KAFKA_BOOTSTRAP_SERVERS']},{LOOPBACK}:{free_port()}"

    report = without_database.examine(NEXUS_KAFKA_BOOTSTRAP_SERVERS=both)

    assert finding(report, "kafka.reachable").severity == "warning"
    assert finding(report, "kafka.topics").severity == "ok"
    assert (report.exit_code(strict=False), report.exit_code(strict=True)) == (0, 1)


@contextmanager
def _tls_server(authority: CertificateAuthority, name: str) -> Iterator[int]:
    """A server that accepts TLS and sends nothing."""
    certificate, key = authority.issue(name, addresses=[] if name != "localhost" else [LOOPBACK])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with socket.create_server((LOOPBACK, 0)) as listening:
        listening.settimeout(0.2)
        stopping = threading.Event()

        def serve() -> None:
            while not stopping.is_set():
                try:
                    raw, _ = listening.accept()
                except TimeoutError:
                    continue
                try:
                    with raw, context.wrap_socket(raw, server_side=True) as client:
                        client.settimeout(1)
                        client.recv(64)
                except (OSError, ssl.SSLError):
                    continue

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listening.getsockname()[1]
        finally:
            stopping.set()
            thread.join()


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> CertificateAuthority:
    return CertificateAuthority.make(tmp_path_factory.mktemp("ca"), "doctor-ca")


def test_a_certificate_of_another_authority(
    without_database: Doctor, finding: Any, authority: CertificateAuthority, tmp_path: Path
) -> None:
    other = CertificateAuthority.make(tmp_path / "other", "other-ca")

    with _tls_server(authority, "localhost") as port:
        report = without_database.examine(
            NEXUS_KAFKA_BOOTSTRAP_SERVERS=f"localhost:{port}",
            NEXUS_KAFKA_SECURITY_PROTOCOL="SSL",
            NEXUS_KAFKA_CA_FILE=str(other.certificate),
        )

    found = finding(report, "kafka.reachable")
    assert "signed by an authority that is not trusted here" in found.found
    assert found.fix.startswith("NEXUS_KAFKA_CA_FILE")


def test_a_certificate_for_another_name(
    without_database: Doctor, finding: Any, authority: CertificateAuthority
) -> None:
    with _tls_server(authority, "broker.example.com") as port:
        report = without_database.examine(
            NEXUS_KAFKA_BOOTSTRAP_SERVERS=f"localhost:{port}",
            NEXUS_KAFKA_SECURITY_PROTOCOL="SSL",
            NEXUS_KAFKA_CA_FILE=str(authority.certificate),
        )

    assert "another host name" in finding(report, "kafka.reachable").found


def test_plain_text_to_a_port_that_speaks_tls(
    without_database: Doctor, finding: Any, authority: CertificateAuthority
) -> None:
    with _tls_server(authority, "localhost") as port:
        report = without_database.examine(NEXUS_KAFKA_BOOTSTRAP_SERVERS=f"localhost:{port}")

    found = finding(report, "kafka.reachable")
    assert "the server uses TLS" in found.found
    assert "NEXUS_KAFKA_SECURITY_PROTOCOL: SSL" in found.fix


def test_tls_to_a_port_that_speaks_plain_text(without_database: Doctor, finding: Any) -> None:
    report = without_database.examine(NEXUS_KAFKA_SECURITY_PROTOCOL="SSL")

    found = finding(report, "kafka.reachable")
    assert "the server uses plain text, but the settings say TLS" in found.found
    assert "NEXUS_KAFKA_SECURITY_PROTOCOL: PLAINTEXT" in found.fix


def test_topics_that_are_missing(no_topics: Doctor, finding: Any) -> None:
    report = no_topics.examine()

    missing = [each for each in report.findings if each.check == "kafka.topic_missing"]
    assert len(missing) == 5
    assert {each.severity for each in missing} == {"error"}
    assert all(each.fix.startswith("nexus topics apply") for each in missing)
    assert report.exit_code(strict=False) == 1
    # A request for a topic may create it. The doctor must not create it.
    assert no_topics.examine().count(missing[0].severity) == report.count(missing[0].severity)


def test_a_wrong_partition_count(without_database: Doctor, finding: Any) -> None:
    report = without_database.examine(NEXUS_TOPIC_PARTITIONS="3")

    wrong = [each for each in report.findings if each.check == "kafka.topic_partitions"]
    # Ingestion, changelog, enriched: the topics with a fixed partition count.
    assert len(wrong) == 3
    assert all("2 partitions, NEXUS_TOPIC_PARTITIONS says 3" in each.found for each in wrong)
    assert all("NEXUS_TOPIC_PARTITIONS=2" in each.fix for each in wrong)


def test_options_that_lose_data(no_topics: Doctor, finding: Any) -> None:
    settings = no_topics.settings()
    topic = settings.ingestion_topic

    async def make() -> None:
        admin = AIOKafkaAdminClient(bootstrap_servers=settings.kafka_bootstrap_servers)
        try:
            await admin.start()
            options = {"cleanup.policy": "compact", "retention.ms": "3600000", "max.message.bytes": "100000"}
            await admin.create_topics([NewTopic(topic, 2, 1, topic_configs=options)])
        finally:
            await admin.close()

    asyncio.run(make())

    report = no_topics.examine("gateway", NEXUS_MAX_BODY_BYTES="300000")

    options = {
        each.found.split(": ")[1].split("=")[0]: each for each in report.findings if each.check == "kafka.topic_option"
    }
    assert options["cleanup.policy"].severity == "error"
    assert options["max.message.bytes"].severity == "error"
    assert options["retention.ms"].severity == "warning"
    assert f"--entity-name {topic} --add-config cleanup.policy=delete" in options["cleanup.policy"].fix


def test_another_program_in_our_group(without_database: Doctor, finding: Any) -> None:
    settings = without_database.settings()
    stop, joined = threading.Event(), threading.Event()

    async def consume() -> None:
        async with AIOKafkaConsumer(
            settings.dead_letter_topic,
            bootstrap_servers=settings.kafka_bootstrap_servers,
            group_id=settings.enricher_app_id,
            client_id="somebody-elses",
            session_timeout_ms=6000,
            heartbeat_interval_ms=1000,
        ) as consumer:
            while not consumer.assignment():  # noqa: ASYNC110 - aiokafka tells nobody
                await asyncio.sleep(0.05)
            joined.set()
            await asyncio.to_thread(stop.wait)

    thread = threading.Thread(target=lambda: asyncio.run(consume()))
    thread.start()
    try:
        assert joined.wait(_WAIT_SECONDS)
        report = without_database.examine("enricher")
    finally:
        stop.set()
        thread.join()

    found = finding(report, "kafka.group_foreign")
    assert found.severity == "error"
    assert "somebody-elses" in found.found
    assert "NEXUS_ENRICHER_APP_ID=" in found.fix


@pytest.mark.parametrize(("hours", "severity"), [(40, "error"), (20, "warning"), (1, "ok")])
def test_a_backlog_that_nears_the_end_of_the_retention(
    without_database: Doctor, finding: Any, hours: int, severity: str
) -> None:
    settings = without_database.settings()

    async def produce() -> None:
        async with AIOKafkaProducer(bootstrap_servers=settings.kafka_bootstrap_servers) as producer:
            then_ms = int((time.time() - hours * 3600) * 1000)
            # Three partitions' worth of batches would hide a mistake in one.
            for partition in (0, 1):
                await producer.send_and_wait(settings.ingestion_topic, b"{}", timestamp_ms=then_ms, partition=partition)

    asyncio.run(produce())

    report = without_database.examine("enricher")

    found = finding(report, "kafka.lag" if severity == "ok" else "kafka.retention")
    assert found.severity == severity
    if severity != "ok":
        # Retention is 72 h.
        assert f"{hours}.0 h old, {hours / 72:.0%} of the retention" in found.found
        assert "retention.ms=518400000" in found.fix


def test_the_embedded_broker_in_production_is_an_error(without_database: Doctor, finding: Any) -> None:
    report = without_database.examine("gateway", NEXUS_ENV="production")

    assert finding(report, "kafka.cluster").severity == "error"
