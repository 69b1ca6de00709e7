"""Judge the brokers' own options: idle connections, session timeouts, offsets, number of brokers. Pure functions.

Managed clusters often hide these options. Then there is no finding.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from nexus_stream.doctor.finding import Finding, error, note, ok, warning
from nexus_stream.kafka.clients import is_embedded
from nexus_stream.settings import Settings

__all__ = ["judge_broker_options", "judge_cluster"]

_NODES_IN_PRODUCTION: Final = 3


def judge_cluster(settings: Settings, cluster: Mapping[str, Any]) -> list[Finding]:
    """Judge which cluster this is, and how many brokers it has."""
    nodes = len(cluster["brokers"])
    found = f"cluster {cluster['cluster_id']}, {nodes} broker(s)"
    if is_embedded(cluster["cluster_id"]):
        found = "the embedded broker: it keeps everything in memory"
        if settings.env == "production":
            why = "Every restart of the broker loses all records, offsets and state."
            return [error("kafka.cluster", found, why, "NEXUS_KAFKA_BOOTSTRAP_SERVERS: name an Apache Kafka cluster.")]
        return [note("kafka.cluster", found, "For development only.")]
    if settings.env == "production" and nodes < _NODES_IN_PRODUCTION:
        why = "With fewer than three brokers, one failed broker stops all writes or loses records."
        return [warning("kafka.cluster", found, why, "Add brokers, then NEXUS_TOPIC_REPLICATION_FACTOR=3.")]
    return [ok("kafka.cluster", found)]


def judge_broker_options(settings: Settings, options: Mapping[str, str]) -> list[Finding]:
    """Judge the options of one broker. ``options`` is empty if the broker shows none."""
    findings = []
    idle_ms = _number(options, "connections.max.idle.ms")
    ours_seconds = settings.kafka_connections_max_idle_seconds
    if idle_ms is not None and 0 <= idle_ms <= ours_seconds * 1000:
        found = f"the broker closes idle connections after {idle_ms / 1000:g} s, our clients after {ours_seconds:g} s"
        why = "After an idle time, the first record of a process may fail once. The retry delays it by seconds."
        fix = f"NEXUS_KAFKA_CONNECTIONS_MAX_IDLE_SECONDS={max(1, idle_ms * 9 // 10_000)}"
        findings.append(warning("kafka.idle", found, why, fix))
    findings += _session_timeout(settings, options)
    if options.get("auto.create.topics.enable") == "true" and settings.env == "production":
        why = "A wrong NEXUS_TOPIC_PREFIX creates topics with the broker's defaults instead of an error."
        fix = "broker option auto.create.topics.enable=false"
        findings.append(note("kafka.auto_create", "the broker creates a missing topic at a client's request", why, fix))
    minutes = _number(options, "offsets.retention.minutes")
    if minutes is not None and minutes < settings.ingestion_retention_hours * 60:
        found = f"the broker deletes a stopped group's offsets after {minutes / 60:g} h"
        hours = settings.ingestion_retention_hours
        why = f"After a longer stop, a worker reads all {hours} h again (no call is paid twice)."
        fix = f"broker option offsets.retention.minutes={settings.ingestion_retention_hours * 60}"
        findings.append(note("kafka.offsets_retention", found, why, fix))
    if options and not findings:
        findings.append(ok("kafka.broker_options", "idle limit and session timeouts fit"))
    return findings


def _session_timeout(settings: Settings, options: Mapping[str, str]) -> list[Finding]:
    ours_ms = settings.kafka_session_timeout_seconds * 1000
    least, most = (_number(options, f"group.{end}.session.timeout.ms") for end in ("min", "max"))
    if (least is None or ours_ms >= least) and (most is None or ours_ms <= most):
        return []
    found = f"NEXUS_KAFKA_SESSION_TIMEOUT_SECONDS={ours_ms / 1000:g} is outside the broker's limits"
    fix = f"NEXUS_KAFKA_SESSION_TIMEOUT_SECONDS: between {(least or 0) / 1000:g} and {(most or 0) / 1000:g}"
    return [error("kafka.session_timeout", found, "No worker can join its group.", fix)]


def _number(options: Mapping[str, str], name: str) -> int | None:
    value = options.get(name)
    try:
        return None if value is None else int(value)
    except ValueError:
        return None
