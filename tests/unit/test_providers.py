"""Provider presets: defaults that a variable overrides, contradictions reported at once, accepted topic options."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from nexus_stream.contracts.topics import declared_topics
from nexus_stream.errors import ConfigurationError
from nexus_stream.kafka.clients import batch_bytes
from nexus_stream.providers import PROVIDERS, ProviderName
from nexus_stream.settings import Settings, _variables, load_settings

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "providers.md"
# The minimum that each provider needs besides its name.
ENOUGH: dict[ProviderName, dict[str, str]] = {
    "local": {},
    "confluent": {"BOOTSTRAP_SERVERS": "pkc-1.eu.aws.confluent.cloud:9092", "USERNAME": "KEY", "PASSWORD": "s"},
    "redpanda": {"BOOTSTRAP_SERVERS": "seed.redpanda.example:9092", "USERNAME": "u", "PASSWORD": "s"},
    "aiven": {
        "BOOTSTRAP_SERVERS": "kafka.aiven.example:1",
        "USERNAME": "u",
        "PASSWORD": "s",
        "CA_FILE": "/run/secrets/ca.pem",
    },
    "msk-scram": {"BOOTSTRAP_SERVERS": "b-1.x.amazonaws.com:9096", "USERNAME": "u", "PASSWORD": "s"},
    "msk-iam": {"BOOTSTRAP_SERVERS": "b-1.x.amazonaws.com:9098", "AWS_REGION": "us-east-1"},
    "msk-serverless": {"BOOTSTRAP_SERVERS": "boot-1.x.amazonaws.com:9098", "AWS_REGION": "us-gov-west-1"},
    "eventhubs": {"BOOTSTRAP_SERVERS": "ns.servicebus.windows.net:9093", "PASSWORD": "Endpoint=sb://ns/;Key=x"},
}


def load(provider: str, **variables: str) -> Settings:
    environ = {f"NEXUS_KAFKA_{name}": value for name, value in variables.items()}
    return load_settings(environ={"NEXUS_KAFKA_PROVIDER": provider, **environ})


def problems(provider: str, environ: dict[str, str]) -> str:
    with pytest.raises(ConfigurationError) as caught:
        load_settings(environ={"NEXUS_KAFKA_PROVIDER": provider, **environ})
    return str(caught.value)


@pytest.mark.parametrize("provider", PROVIDERS)
def test_the_minimum_is_enough_and_gets_the_defaults(provider: ProviderName):
    settings = load(provider, **ENOUGH[provider])
    for name, value in PROVIDERS[provider].defaults.items():
        assert getattr(settings, name) == value


@pytest.mark.parametrize("provider", PROVIDERS)
def test_every_name_in_a_preset_is_a_setting(provider: ProviderName):
    preset = PROVIDERS[provider]
    named = {*preset.defaults, *preset.allowed, *preset.needed, *preset.refused}
    assert named <= set(Settings.model_fields)
    assert all(source.startswith("https://") for source in preset.sources)
    assert preset.sources or provider == "local"


def test_no_provider_changes_nothing():
    assert load_settings(environ={}) == load_settings(environ={}, kafka_provider=None)
    bare, local = load_settings(environ={}), load("local")
    assert local.model_dump(exclude={"kafka_provider"}) == bare.model_dump(exclude={"kafka_provider"})


def test_a_variable_wins_over_the_preset():
    settings = load("redpanda", **ENOUGH["redpanda"], SASL_MECHANISM="SCRAM-SHA-512", REQUEST_TIMEOUT_SECONDS="7")
    assert (settings.kafka_sasl_mechanism, settings.kafka_request_timeout_seconds) == ("SCRAM-SHA-512", 7.0)
    assert settings.topic_replication_factor == 3
    assert load_settings(environ={"NEXUS_KAFKA_PROVIDER": "redpanda"}, topic_replication_factor=5,
                         kafka_username="u", kafka_password="s").topic_replication_factor == 5  # fmt: skip


def test_all_contradictions_at_once_and_no_value():
    text = problems(
        "msk-iam",
        {
            "NEXUS_KAFKA_USERNAME": "somebody",
            "NEXUS_KAFKA_PASSWORD": "hidden-value",
            "NEXUS_KAFKA_SASL_MECHANISM": "PLAIN",
            "NEXUS_KAFKA_SECURITY_PROTOCOL": "PLAINTEXT",
        },
    )
    for variable in ("USERNAME", "PASSWORD", "SASL_MECHANISM", "SECURITY_PROTOCOL", "AWS_REGION", "BOOTSTRAP_SERVERS"):
        assert f"NEXUS_KAFKA_{variable}: " in text
    assert "hidden-value" not in text
    assert "somebody" not in text


@pytest.mark.parametrize(
    ("provider", "changed", "expected"),
    [
        (
            "confluent",
            {"NEXUS_TOPIC_REPLICATION_FACTOR": "1"},
            "NEXUS_TOPIC_REPLICATION_FACTOR: Confluent Cloud accepts 3",
        ),
        ("confluent", {"NEXUS_KAFKA_PASSWORD": ""}, "NEXUS_KAFKA_USERNAME, NEXUS_KAFKA_PASSWORD: both"),
        ("aiven", {"NEXUS_KAFKA_CA_FILE": ""}, "NEXUS_KAFKA_CA_FILE: needed"),
        ("msk-scram", {"NEXUS_KAFKA_SASL_MECHANISM": "SCRAM-SHA-256"}, "accepts SCRAM-SHA-512"),
        ("msk-scram", {"NEXUS_KAFKA_AWS_REGION": "us-east-1"}, "NEXUS_KAFKA_AWS_REGION: must not be set"),
        ("msk-iam", {"NEXUS_KAFKA_OAUTH_TOKEN_FILE": "/t"}, "NEXUS_KAFKA_OAUTH_TOKEN_FILE: must not be set"),
        ("msk-iam", {"NEXUS_KAFKA_AWS_REGION": "here"}, "NEXUS_KAFKA_AWS_REGION: "),
        ("eventhubs", {"NEXUS_KAFKA_USERNAME": "me"}, r"literal text \$ConnectionString"),
        ("eventhubs", {"NEXUS_KAFKA_PASSWORD": "key-alone"}, "whole connection string"),
        ("eventhubs", {"NEXUS_KAFKA_CONNECTIONS_MAX_IDLE_SECONDS": "540"}, "below 240"),
        ("eventhubs", {"NEXUS_KAFKA_REQUEST_TIMEOUT_SECONDS": "10"}, "at least 20"),
        ("upstash", {}, "NEXUS_KAFKA_PROVIDER: "),
    ],
)
def test_an_impossible_value_names_its_variable(provider: Any, changed: dict[str, str], expected: str):
    enough = {f"NEXUS_KAFKA_{name}": value for name, value in ENOUGH.get(provider, {}).items()}
    text = problems(provider, {**enough, **changed})
    assert re.search(expected, text)
    # A second problem only if one variable contradicts two facts.
    assert re.match("[12] configuration problem", text)


@pytest.mark.parametrize("mechanism", ["OAUTHBEARER"])
def test_tokens_come_from_one_place(mechanism: str):
    environ = {"NEXUS_KAFKA_SECURITY_PROTOCOL": "SASL_SSL", "NEXUS_KAFKA_SASL_MECHANISM": mechanism}
    load_settings(environ={**environ, "NEXUS_KAFKA_OAUTH_TOKEN_FILE": "/run/token"})
    for both in ({}, {"NEXUS_KAFKA_OAUTH_TOKEN_FILE": "/t", "NEXUS_KAFKA_AWS_REGION": "us-east-1"}):
        with pytest.raises(ConfigurationError, match="one of them is needed for OAUTHBEARER"):
            load_settings(environ={**environ, **both})


def test_a_client_certificate_needs_its_key():
    with pytest.raises(ConfigurationError, match="set both or neither"):
        load_settings(environ={"NEXUS_KAFKA_SECURITY_PROTOCOL": "SSL", "NEXUS_KAFKA_CLIENT_CERT_FILE": "/c"})


def options(provider: ProviderName) -> dict[str, dict[str, str]]:
    settings = load(provider, **ENOUGH[provider])
    return {spec.name: spec.configs for spec in declared_topics(settings)}


def test_topics_get_the_options_that_a_provider_accepts():
    everywhere = options("msk-scram")
    assert everywhere["nexus-status"]["segment.ms"] == str(3_600_000)
    assert everywhere["nexus-prospect-ingestion"]["min.insync.replicas"] == "2"
    assert options("confluent")["nexus-status"]["segment.ms"] == str(4 * 3_600_000)
    assert all("min.insync.replicas" not in configs for configs in options("redpanda").values())
    for provider in ("eventhubs", "msk-serverless"):
        found = options(provider)
        assert found["nexus-enricher-sessions-changelog"] == {"cleanup.policy": "compact"}
        assert "segment.ms" not in found["prospects-enriched"]
    assert options("eventhubs")["nexus-prospect-dlq"]["retention.ms"] == str(168 * 3_600_000)


def test_batches_of_all_partitions_fit_into_a_request():
    settings = load("eventhubs", **ENOUGH["eventhubs"])
    limit = PROVIDERS["eventhubs"].request_max_bytes
    assert limit is not None
    assert batch_bytes(settings, 131_072) * settings.topic_partitions < limit
    assert batch_bytes(load_settings(environ={}), 131_072) == 131_072


def blocks() -> list[dict[str, str]]:
    text = PAGE.read_text(encoding="utf-8")
    found = re.findall(r"```\n(NEXUS_KAFKA_PROVIDER=.*?)```", text, re.DOTALL)
    return [dict(line.replace('"', "").split("=", 1) for line in block.splitlines()) for block in found]


def test_each_providers_documented_block_is_enough():
    given = blocks()
    assert {block["NEXUS_KAFKA_PROVIDER"] for block in given} == set(PROVIDERS) - {"local", "msk-serverless"}
    for block in given:
        assert set(block) <= set(_variables())
        load_settings(environ=block)
