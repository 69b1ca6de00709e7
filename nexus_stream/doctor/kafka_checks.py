"""The area ``kafka``: query the cluster, and pass the answers to the modules that judge them.

Also measures the facts for capacity_checks.py. The checks write nothing: no record and no offset. They join no group.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Any, Final

from aiokafka import AIOKafkaConsumer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import GroupAuthorizationFailedError, KafkaConnectionError, KafkaError

from nexus_stream.contracts.topics import declared_topics
from nexus_stream.doctor import kafka_brokers, kafka_groups, kafka_topics
from nexus_stream.doctor.facts import MeasuredFacts
from nexus_stream.doctor.finding import Finding, Severity, error, ok
from nexus_stream.doctor.kafka_permissions import check_permissions, needed_topics
from nexus_stream.doctor.kafka_provider import judge_provider
from nexus_stream.doctor.kafka_reach import reach_brokers
from nexus_stream.doctor.network import connect
from nexus_stream.doctor.running import CHECK_SECONDS, REACH_SECONDS, guarded
from nexus_stream.errors import BrokerUnavailableError
from nexus_stream.kafka.access import unseen_topics
from nexus_stream.kafka.clients import client_options, is_embedded, stop_consumer
from nexus_stream.kafka.group_offsets import GroupOffsets, GroupStanding
from nexus_stream.kafka.reading import partitions_of
from nexus_stream.settings import Role, Settings

__all__ = ["check_kafka"]

_DAY_MS: Final = 86_400_000
_HOUR_MS: Final = 3_600_000


async def check_kafka(
    settings: Settings, roles: frozenset[Role], facts: MeasuredFacts, *, roles_are_named: bool = False
) -> list[Finding]:
    """Connect to the cluster, then check topics, options, groups and backlog concurrently."""
    reached, findings = await reach_brokers(settings)
    findings += judge_provider(settings)
    if not reached:
        return findings
    options = {**client_options(settings), "request_timeout_ms": int(CHECK_SECONDS * 1000)}
    admin = AIOKafkaAdminClient(**options, client_id="nexus-doctor")
    try:
        try:
            async with asyncio.timeout(REACH_SECONDS):
                await admin.start()
                cluster = await admin.describe_cluster()
        except (KafkaError, OSError, TimeoutError) as failure:
            return [
                *(finding for finding in findings if finding.severity is not Severity.OK),
                _not_let_in(settings, failure),
            ]
        embedded = is_embedded(cluster["cluster_id"])
        checks = [
            guarded("kafka.cluster", _cluster(settings, admin, cluster)),
            guarded("kafka.topics", _topics(settings, roles, admin, embedded=embedded)),
            guarded("kafka.permissions", check_permissions(settings, roles, roles_are_named=roles_are_named)),
        ]
        if "enricher" in roles:
            checks.append(guarded("kafka.group", _group(settings, admin, "enricher", facts)))
        if "sink" in roles:
            checks.append(guarded("kafka.group", _group(settings, admin, "sink", facts)))
        if "enricher" in roles or "gateway" in roles:
            checks.append(guarded("kafka.volume", _volume(settings, facts), severity=Severity.NOTE))
        results = await asyncio.gather(*checks)
    finally:
        await admin.close()
    return findings + [finding for found in results for finding in found]


def _not_let_in(settings: Settings, failure: BaseException) -> Finding:
    why = "No process can read or write a record."
    if isinstance(failure, KafkaConnectionError) and not settings.kafka_security_protocol.startswith("SASL"):
        found = "the listener accepts connections but closes them at the first request: it requires a login (SASL)"
        with_sasl = "SASL_SSL" if settings.kafka_security_protocol == "SSL" else "SASL_PLAINTEXT"
        fix = f"NEXUS_KAFKA_SECURITY_PROTOCOL={with_sasl}, NEXUS_KAFKA_USERNAME, NEXUS_KAFKA_PASSWORD"
        return error("kafka.reachable", found, why, fix)
    found = f"a server accepts the connection, but the cluster cannot be described ({type(failure).__name__})"
    return error("kafka.reachable", found, why, "Check the brokers' log and their advertised.listeners.")


async def _cluster(settings: Settings, admin: AIOKafkaAdminClient, cluster: Mapping[str, Any]) -> list[Finding]:
    findings = kafka_brokers.judge_cluster(settings, cluster)
    brokers = cluster["brokers"]
    # After the first contact, a client uses only the addresses that the cluster advertises.
    troubles = await asyncio.gather(*(connect(node["host"], node["port"], REACH_SECONDS) for node in brokers))
    for trouble in troubles:
        if trouble is not None:
            found = f"the cluster advertises a broker address that this machine cannot reach: {trouble.found}"
            why = "This machine can neither write nor read the broker's partitions."
            fix = f"Broker option advertised.listeners: set an address that clients can reach; or {trouble.fix}."
            findings.append(error("kafka.advertised", found, why, fix))
    if not any(troubles):
        findings.append(ok("kafka.advertised", "every broker answers at its advertised address"))
    if not is_embedded(cluster["cluster_id"]) and brokers:
        resource = ConfigResource(ConfigResourceType.BROKER, str(brokers[0]["node_id"]))
        options = await _configs(admin, [resource])
        findings += kafka_brokers.judge_broker_options(settings, options.get(resource.name, {}))
    return findings


async def _topics(
    settings: Settings, roles: frozenset[Role], admin: AIOKafkaAdminClient, *, embedded: bool
) -> list[Finding]:
    needed = needed_topics(settings, roles)
    names = [spec.name for spec in declared_topics(settings) if spec.name in needed]
    existing = set(await admin.list_topics())
    # Describe only existing topics: a request for a missing topic may create it.
    there = [name for name in names if name in existing]
    described = await admin.describe_topics(there) if there else []
    configs = await _configs(admin, [ConfigResource(ConfigResourceType.TOPIC, name) for name in there])
    found = kafka_topics.topics_found(described, configs)
    unseen = await unseen_topics(settings, [name for name in names if name not in existing])
    found += [kafka_topics.TopicFound(name, 0, 0, 0, 0, is_forbidden=True) for name in sorted(unseen)]
    return kafka_topics.judge_topics(settings, found, needed, is_embedded=embedded)


async def _configs(admin: AIOKafkaAdminClient, resources: list[ConfigResource]) -> dict[str, dict[str, str]]:
    """Return resource -> options. Resources whose options are not readable are left out."""
    if not resources:
        return {}
    try:
        answers = await admin.describe_configs(resources)
    except KafkaError:
        # The broker does not support the request, or the login lacks the permission.
        return {}
    return {
        name: {entry[0]: entry[1] for entry in entries if entry[1] is not None}
        for answer in answers
        for code, _, _, name, entries in answer.resources
        if code == 0
    }


async def _group(settings: Settings, admin: AIOKafkaAdminClient, role: Role, facts: MeasuredFacts) -> list[Finding]:
    is_sink = role == "sink"
    group, topic = (
        (settings.sink_app_id, settings.enriched_topic)
        if is_sink
        else (settings.enricher_app_id, settings.ingestion_topic)
    )
    variable = "NEXUS_SINK_APP_ID" if is_sink else "NEXUS_ENRICHER_APP_ID"
    try:
        answers = await admin.describe_consumer_groups([group])
    except GroupAuthorizationFailedError:
        found = kafka_groups.GroupFound(group, "", 0, (), is_forbidden=True)
    else:
        found = kafka_groups.group_found(list(answers[0].groups[0]), topic)
    findings = kafka_groups.judge_group(found, variable)
    if found.is_forbidden:
        return findings
    if is_sink:
        facts.sinks = found.members
    else:
        facts.enrichers = found.members
    if topic not in await admin.list_topics():
        return findings
    retention_hours = settings.enriched_retention_hours if is_sink else settings.ingestion_retention_hours
    options = (await _configs(admin, [ConfigResource(ConfigResourceType.TOPIC, topic)])).get(topic, {})
    retention_ms = float(options.get("retention.ms", retention_hours * _HOUR_MS))
    standing = await _standing(settings, group, topic)
    return findings + kafka_groups.judge_backlog(
        standing, retention_ms, time.time() * 1000, alert_lag=settings.alert_lag_records
    )


async def _standing(settings: Settings, group: str, topic: str) -> GroupStanding:
    offsets = GroupOffsets(settings, group, topic)
    try:
        standing = await offsets.ask()
    finally:
        await offsets.close()
    if standing is None:
        raise BrokerUnavailableError(f"group {group} on {topic}: {offsets.problem}")
    return standing


async def _volume(settings: Settings, facts: MeasuredFacts) -> list[Finding]:
    """Count the records that the ingestion topic received. The capacity checks use these counts."""
    consumer = AIOKafkaConsumer(
        **{**client_options(settings), "request_timeout_ms": int(CHECK_SECONDS * 1000)},
        client_id="nexus-doctor",
        group_id=None,
    )
    try:
        await consumer.start()
        partitions = await partitions_of(consumer, settings.ingestion_topic)
        if not partitions:
            return []
        ends = await consumer.end_offsets(partitions)
        now_ms = int(time.time() * 1000)
        counts = []
        for span_ms in (_DAY_MS, _HOUR_MS):
            starts = await consumer.offsets_for_times(dict.fromkeys(partitions, now_ms - span_ms))
            # None: the partition has no record after this time.
            counts.append(sum(ends[tp] - at.offset for tp, at in starts.items() if at is not None))
    finally:
        await stop_consumer(consumer)
    facts.records_last_day, facts.records_last_hour = counts
    return [ok("kafka.volume", f"{counts[0]} conversation snapshots in the last 24 h, {counts[1]} in the last hour")]
