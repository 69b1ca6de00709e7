"""The doctor's judgements of answers that are hard to provoke: pure functions, one case each."""

from __future__ import annotations

import socket
import ssl
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from aiokafka.coordinator.protocol import ConsumerProtocolMemberMetadata

from nexus_stream.contracts.topics import declared_topics
from nexus_stream.doctor.capacity_checks import (
    check_capacity,
    judge_budget,
    judge_in_flight,
    judge_pool,
    judge_shares,
    usd_per_call,
)
from nexus_stream.doctor.claude_checks import judge_model, judge_setup
from nexus_stream.doctor.claude_models import RETIRED, retirement_of
from nexus_stream.doctor.facts import MeasuredFacts
from nexus_stream.doctor.finding import DoctorReport, Finding, Severity, error, note, ok, warning
from nexus_stream.doctor.host_checks import judge_descriptors, judge_disk, judge_memory
from nexus_stream.doctor.kafka_brokers import judge_broker_options, judge_cluster
from nexus_stream.doctor.kafka_groups import GroupFound, group_found, judge_backlog, judge_group
from nexus_stream.doctor.kafka_provider import judge_provider
from nexus_stream.doctor.kafka_reach import parse_bootstrap
from nexus_stream.doctor.kafka_topics import TopicFound, judge_topics
from nexus_stream.doctor.network import trouble_of
from nexus_stream.doctor.postgres_judging import ServerFound, judge_clock, judge_pooler, judge_server, judge_tls
from nexus_stream.doctor.settings_checks import check_settings
from nexus_stream.extraction.claude.prices import PRICES
from nexus_stream.kafka.group_offsets import GroupStanding, PartitionStanding
from nexus_stream.settings import Settings, load_settings
from nexus_stream.supabase.target import parse_target

_HOUR_MS = 3_600_000


def _settings(**changes: Any) -> Settings:
    return load_settings(environ={"NEXUS_ENV": "test"}, **changes)


def _severities(findings: list[Finding]) -> dict[str, Severity]:
    return {finding.check: finding.severity for finding in findings}


@pytest.mark.parametrize(
    ("findings", "code", "strict_code"),
    [
        ([ok("host.disk", "x")], 0, 0),
        ([note("host.disk", "x")], 0, 0),
        ([warning("host.disk", "x", "y", "z")], 0, 1),
        ([error("host.disk", "x", "y", "z"), ok("kafka.lag", "x")], 1, 1),
    ],
)
def test_exit_codes(findings: list[Finding], code: int, strict_code: int) -> None:
    report = DoctorReport.of(findings)

    assert (report.exit_code(strict=False), report.exit_code(strict=True)) == (code, strict_code)
    assert DoctorReport.of(findings, is_invalid=True).exit_code(strict=False) == 78


@pytest.mark.parametrize(
    ("failure", "kind"),
    [
        (socket.gaierror(-2, "x"), "dns"),
        (ConnectionRefusedError(), "refused"),
        (OSError("Multiple exceptions: [Errno 111] Connect call failed ('::1', 1)"), "refused"),
        (TimeoutError(), "timeout"),
        (OSError(113, "x"), "unreachable"),
        (ConnectionResetError(), "closed"),
        (ssl.SSLError(1, "[SSL: WRONG_VERSION_NUMBER] x"), "tls"),
        (ValueError("anything"), "other"),
    ],
)
def test_each_connection_error_has_its_kind(failure: Exception, kind: str) -> None:
    if isinstance(failure, ssl.SSLError):
        failure.reason = "WRONG_VERSION_NUMBER"

    assert trouble_of(failure, "host:1").kind == kind


def test_bootstrap_addresses() -> None:
    found = parse_bootstrap("a.example.com:9093, [::1]:9094,b.example.com")

    assert found == [("a.example.com", 9093), ("::1", 9094), ("b.example.com", 9092)]


def test_dangerous_combinations_in_production() -> None:
    settings = load_settings(
        environ={
            "NEXUS_ENV": "production",
            "NEXUS_KAFKA_BOOTSTRAP_SERVERS": "kafka.example.com:9092",
            "NEXUS_CONSOLE_HOST": "0.0.0.0",
            "NEXUS_METRICS_HOST": "0.0.0.0",
            "NEXUS_METRICS_PORT": "9100",
        }
    )

    found = _severities(check_settings(settings, frozenset({"gateway", "enricher", "console"}), {"NEXUS_ENV": "x"}))

    assert found["settings.kafka_plain_text"] == "error"
    assert found["settings.console_token"] == "error"
    assert found["settings.replication"] == "warning"
    assert found["settings.gateway_origins"] == "warning"
    assert found["settings.metrics_public"] == "warning"
    assert "settings.valid" not in found


def test_the_same_combinations_are_fine_in_local_development() -> None:
    settings = load_settings(environ={})

    assert _severities(check_settings(settings, frozenset({"gateway", "enricher", "console"}), {})) == {
        "settings.valid": "ok"
    }


def _topics(settings: Settings, **changes: Any) -> list[TopicFound]:
    return [
        replace(TopicFound(spec.name, spec.partitions, 3, 3, 0, configs=dict(spec.configs)), **changes)
        for spec in declared_topics(settings)
    ]


@pytest.mark.parametrize(
    ("changes", "check", "severity"),
    [
        ({}, "kafka.topics", "ok"),
        ({"without_leader": 1}, "kafka.topic_leader", "error"),
        ({"in_sync": 1}, "kafka.topic_in_sync", "error"),
        ({"copies": 2}, "kafka.topic_replication", "warning"),
        ({"configs": None}, "kafka.topic_options", "note"),
        ({"is_forbidden": True}, "kafka.topic_forbidden", "error"),
    ],
)
def test_topics(changes: dict[str, Any], check: str, severity: str) -> None:
    settings = _settings(topic_replication_factor=3)
    names = [spec.name for spec in declared_topics(settings)]

    found = _severities(judge_topics(settings, _topics(settings, **changes), names))

    assert found[check] == severity


def test_a_topic_with_one_copy_in_production_is_an_error_although_declared_so() -> None:
    settings = load_settings(environ={"NEXUS_ENV": "production"})
    names = [settings.ingestion_topic]

    found = judge_topics(settings, _topics(settings, copies=1, in_sync=1), names)

    assert _severities(found)["kafka.topic_replication"] == "error"


@pytest.mark.parametrize(
    ("option", "value", "severity"),
    [
        ("cleanup.policy", "delete", "error"),
        ("max.compaction.lag.ms", str(9 * 24 * _HOUR_MS), "note"),
        ("min.insync.replicas", "2", None),
    ],
)
def test_options_of_the_changelog(option: str, value: str, severity: str | None) -> None:
    settings = _settings()
    name = settings.sessions_changelog_topic
    topics = [
        replace(topic, configs={**(topic.configs or {}), option: value}) if topic.name == name else topic
        for topic in _topics(settings)
    ]

    assert _severities(judge_topics(settings, topics, [name])).get("kafka.topic_option") == severity


@pytest.mark.parametrize(("value", "severity"), [("CreateTime", "note"), ("LogAppendTime", None)])
def test_a_topic_with_the_producers_times_is_advice(value: str, severity: str | None) -> None:
    settings = _settings()
    name = settings.ingestion_topic
    topics = [
        replace(topic, configs={**(topic.configs or {}), "message.timestamp.type": value})
        for topic in _topics(settings)
        if topic.name == name
    ]

    assert _severities(judge_topics(settings, topics, [name])).get("kafka.topic_option") == severity


def test_fewer_than_three_brokers_in_production() -> None:
    settings = load_settings(environ={"NEXUS_ENV": "production"})

    assert judge_cluster(settings, {"cluster_id": "abc", "brokers": [1, 2]})[0].severity == "warning"
    assert judge_cluster(settings, {"cluster_id": "abc", "brokers": [1, 2, 3]})[0].severity == "ok"


def test_a_broker_that_closes_before_we_do() -> None:
    settings = _settings()

    found = judge_broker_options(settings, {"connections.max.idle.ms": "240000"})

    assert found[0].fix == "NEXUS_KAFKA_CONNECTIONS_MAX_IDLE_SECONDS=216"
    assert _severities(judge_broker_options(settings, {"connections.max.idle.ms": "600000"})) == {
        "kafka.broker_options": "ok"
    }
    assert judge_broker_options(settings, {}) == []


def _member(client: str, topics: list[str]) -> tuple[Any, ...]:
    return (f"{client}-1", client, "/10.0.0.1", ConsumerProtocolMemberMetadata(0, topics, b"").encode(), b"")


@pytest.mark.parametrize(
    ("protocol", "members", "foreign"),
    [
        ("faust", [_member("faust-0.15.3", ["t"])], ()),
        ("faust", [_member("faust-0.15.3", ["other"])], ("faust-0.15.3 at 10.0.0.1, reads other",)),
        ("range", [_member("rdkafka", ["t"])], ("rdkafka at 10.0.0.1, reads t",)),
        ("", [("faust-0.15.3-1", "", "", b"", b"")], ()),
        ("", [("kafkajs-1", "", "", b"", b"")], ("kafkajs-1",)),
        # Another client's own layout.
        ("range", [("x-1", "x", "/h", b"\x00", b"")], ("x at h",)),
    ],
)
def test_who_is_foreign_in_a_group(protocol: str, members: list[Any], foreign: tuple[str, ...]) -> None:
    assert group_found([0, "g", "Stable", "consumer", protocol, members], "t").foreign == foreign


def test_an_empty_group_is_a_note() -> None:
    assert judge_group(GroupFound("g", "Empty", 0, ()), "NEXUS_SINK_APP_ID")[0].severity == "note"


def test_backlog_arithmetic() -> None:
    # Deleted before read; caught up; never committed.
    standing = GroupStanding(
        "g",
        "t",
        (
            PartitionStanding(0, 20, 80, beginning=50),
            PartitionStanding(1, 10, 10),
            PartitionStanding(2, 5, 9, beginning=5),
        ),
    )

    lost, lag = judge_backlog(standing, -1, 0, alert_lag=30 + 3)
    assert lost.found == "t: 30 record(s) were deleted before group g read them"
    assert lag.found == "t: 34 record(s) wait for group g"


@pytest.mark.parametrize(
    ("hours", "check", "severity"),
    [
        (36.1, "kafka.retention", "error"),
        (35.9, "kafka.retention", "warning"),
        (18.1, "kafka.retention", "warning"),
        (17.9, "kafka.lag", "ok"),
    ],
)
def test_age_against_retention(hours: float, check: str, severity: str) -> None:
    now_ms = 100 * _HOUR_MS
    standing = GroupStanding("g", "t", (PartitionStanding(0, 0, 10, round(now_ms - hours * _HOUR_MS)),))

    assert _severities(judge_backlog(standing, 72 * _HOUR_MS, now_ms, alert_lag=100)) == {check: severity}
    # Kept for ever.
    assert _severities(judge_backlog(standing, -1, now_ms, alert_lag=100)) == {"kafka.lag": "ok"}


def test_an_address_of_a_provider_without_its_preset() -> None:
    settings = _settings(kafka_bootstrap_servers="pkc-1.eu.confluent.cloud:9092")

    assert judge_provider(settings)[0].fix.startswith("NEXUS_KAFKA_PROVIDER=confluent")
    assert judge_provider(_settings()) == []


_SERVER = ServerFound(150_004, False, False, False, False, -1, True, 100, 3, 17, 0, None)


@pytest.mark.parametrize(
    ("changes", "check", "severity"),
    [
        ({"version": 140_000}, "postgresql.version", "error"),
        ({"version": 180_001}, "postgresql.version", "ok"),
        ({"version": 190_000}, "postgresql.version", "note"),
        ({"is_standby": True}, "postgresql.read_only", "error"),
        ({"is_read_only": True}, "postgresql.read_only", "error"),
        ({"bypasses_rls": True}, "postgresql.login", "note"),
        ({"is_sink": False}, "postgresql.login", "warning"),
        ({"transaction_timeout_ms": 5000}, "postgresql.timeout", "warning"),
        ({"statement_timeout_ms": 8000}, "postgresql.timeout", "ok"),
    ],
)
def test_servers(changes: dict[str, Any], check: str, severity: str) -> None:
    assert _severities(judge_server(_settings(), replace(_SERVER, **changes)))[check] == severity


def test_connections_that_are_free() -> None:
    assert _SERVER.connections_free == 80
    assert replace(_SERVER, login_limit=6).connections_free == 6


@pytest.mark.parametrize(
    ("free", "sinks", "severity", "fix"),
    [
        (80, 3, "ok", ""),
        (15, 3, "ok", ""),
        (12, 3, "warning", "NEXUS_DATABASE_POOL_MAX=3"),
        (3, 3, "error", "NEXUS_DATABASE_POOL_MAX=1"),
    ],
)
def test_pool_arithmetic(free: int, sinks: int, severity: str, fix: str) -> None:
    found = judge_pool(_settings(), MeasuredFacts(connections_free=free, connections_of="x"), sinks)[0]

    # Three sinks with the default of four, and the console: thirteen.
    assert (found.severity, found.fix.startswith(fix)) == (severity, True)
    assert "= 13 connections" in found.found


@pytest.mark.parametrize(
    ("mode", "direct", "shares", "severity"),
    [
        ("auto", True, False, "ok"),
        ("auto", False, True, "ok"),
        ("auto", False, False, "ok"),
        ("none", False, True, "error"),
        ("session", False, True, "error"),
        ("transaction", False, True, "ok"),
        ("session", False, False, "ok"),
        ("none", False, False, "note"),
        ("transaction", True, False, "note"),
    ],
)
def test_poolers(mode: Any, direct: bool, shares: bool, severity: str) -> None:
    target = parse_target("postgresql://u@db.example.com/x", mode)

    found = judge_pooler(target, _settings(database_pooler_mode=mode), is_direct=direct, shares=shares)

    assert found.severity == severity


def test_tls_to_the_database() -> None:
    assert judge_tls(parse_target("postgresql://u@localhost/x")) == []
    assert judge_tls(parse_target("postgresql://u@db.example.com/x?sslmode=require"))[0].severity == "warning"
    assert judge_tls(parse_target("postgresql://u@db.example.com/x?sslmode=verify-full"))[0].severity == "ok"


@pytest.mark.parametrize(
    ("ahead", "uncertain", "severity"), [(0.5, 0, "ok"), (-3, 0, "warning"), (3, 2, "ok"), (61, 0, "error")]
)
def test_clocks(ahead: float, uncertain: float, severity: str) -> None:
    assert judge_clock("postgresql.clock", "PostgreSQL", ahead, uncertain).severity == severity


@pytest.mark.parametrize(
    ("model", "day", "severity"),
    [
        ("claude-sonnet-4-20250514", date(2026, 6, 15), "error"),
        ("claude-sonnet-4-20250514", date(2026, 6, 14), "warning"),
        ("claude-sonnet-4-20250514", date(2026, 1, 1), "note"),
        ("claude-haiku-5-5", date(2026, 11, 24), "ok"),
        ("gpt", date(2026, 11, 24), "warning"),
    ],
)
def test_models(model: str, day: date, severity: str) -> None:
    assert judge_model(model, day)[0].severity == severity


def test_our_table_knows_what_the_installed_sdk_knows_with_the_same_days() -> None:
    data = pytest.importorskip("anthropic._data")

    told = {model: retirement_of(model) for model in data.DEPRECATED_MODELS}
    assert all(told.values()), told
    # Use only the SDK's table: our own table would hide a difference.
    from nexus_stream.doctor.claude_models import _from_sdk

    assert {model: _from_sdk(model) for model in told if model in RETIRED} == {
        model: day for model, day in told.items() if model in RETIRED
    }


def test_no_model_that_has_a_price_is_retired() -> None:
    assert not [model for model in PRICES if retirement_of(model) is not None]


def test_keys() -> None:
    def key(text: str) -> Severity:
        return judge_setup(_settings(anthropic_api_key=text))[0].severity

    assert key("sk-ant-abc") == "ok"
    assert key("sk-ant-abc ") == "error"
    assert key("abc") == "warning"
    in_production = load_settings(environ={"NEXUS_ENV": "production"})
    assert judge_setup(in_production)[0].severity == "warning"


def test_the_in_flight_bound() -> None:
    settings = _settings(pending_max_sessions=620, anthropic_api_key="sk-ant-x")

    # 620 sessions at 60 s and 2 s of call: ten a second.
    assert "up to 10 sessions a second" in judge_in_flight(settings, MeasuredFacts()).found
    assert judge_in_flight(settings, MeasuredFacts(records_last_hour=11_000)).severity == "ok"
    busy = judge_in_flight(settings, MeasuredFacts(records_last_hour=24_000))
    assert (busy.severity, busy.fix.split(",")[0]) == ("warning", "NEXUS_PENDING_MAX_SESSIONS=1240")
    # Two workers share it.
    assert judge_in_flight(settings, MeasuredFacts(records_last_hour=24_000, enrichers=2)).severity == "ok"


def test_shares_of_the_allowance() -> None:
    settings = _settings(anthropic_api_key="sk-ant-x")

    assert judge_shares(settings, MeasuredFacts(enrichers=1)) == []
    assert judge_shares(settings, MeasuredFacts(enrichers=4))[0].fix == "NEXUS_CLAUDE_SHARE=0.25"
    quarter = _settings(anthropic_api_key="sk-ant-x", claude_share=0.25)
    assert judge_shares(quarter, MeasuredFacts(enrichers=4)) == []
    slow = _settings(claude_requests_per_minute=600, claude_concurrency=10)
    assert _severities(judge_shares(slow, MeasuredFacts(records_last_hour=40_000))) == {
        "claude.concurrency": "note",
        "claude.allowance": "warning",
    }


def test_the_budget_against_an_ordinary_day() -> None:
    settings = _settings(anthropic_api_key="sk-ant-x", budget_usd_per_day=1.0, budget_fallback="offline")
    usd = usd_per_call(settings)
    assert usd is not None
    affordable = int(1.0 / usd)

    assert judge_budget(settings, affordable)[0].severity == "ok"
    assert judge_budget(settings, affordable + 1)[0].severity == "warning"
    assert judge_budget(settings, None)[0].severity == "ok"
    unknown = _settings(claude_model="claude-unknown-1", budget_usd_per_day=1.0, budget_fallback="offline")
    assert judge_budget(unknown, 10) == []


def test_unselected_roles_are_not_judged() -> None:
    assert check_capacity(_settings(), frozenset({"gateway"}), MeasuredFacts(connections_free=0), sinks=None) == []


def test_this_machine() -> None:
    settings = _settings()
    assert [judge_disk("x", mib * 2**20).severity for mib in (100, 500, 5000)] == ["error", "warning", "ok"]
    assert judge_descriptors(settings, 256, frozenset({"enricher"})).severity == "warning"
    assert judge_descriptors(settings, 65_536, frozenset({"enricher"})).severity == "ok"
    small = judge_memory(settings, 400 * 2**20)
    assert small.severity == "warning"
    lower = int(small.fix.split("=")[1].split()[0])
    # The fix is one.
    assert judge_memory(_settings(pending_max_bytes=lower), 400 * 2**20).severity == "ok"


def test_the_reference_lists_exactly_the_checks() -> None:
    import re

    root = Path(__file__).parents[3]
    code = "\n".join(path.read_text() for path in (root / "nexus_stream" / "doctor").glob("*.py"))
    ids = r"(?:settings|host|kafka|postgresql|claude|redis)\.[a-z_]+"
    in_code = set(re.findall(rf'"({ids})"', code))
    page = (root / "docs" / "reference" / "doctor.md").read_text()
    on_page = set(re.findall(rf"^\| `({ids})` \|", page, re.MULTILINE))

    assert in_code == on_page
