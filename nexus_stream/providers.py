"""Presets for managed Kafka services, chosen with ``NEXUS_KAFKA_PROVIDER``.

The facts come from the providers' documentation, each with its page. settings.py uses them as defaults, which any
variable overrides, and checks the settings. Topics leave out the options that a provider refuses. The presets were not
run against the providers themselves; their mechanisms were run against Apache Kafka.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

__all__ = [
    "PROVIDERS",
    "Provider",
    "ProviderName",
]

ProviderName = Literal["local", "confluent", "redpanda", "aiven", "msk-scram", "msk-iam", "msk-serverless", "eventhubs"]

_HOUR_MS = 3_600_000


@dataclass(frozen=True, slots=True)
class Provider:
    """The requirements of one provider.

    Attributes:
        title: Name to show.
        defaults: Field names and values of settings, for variables that are not set.
        allowed: Field name -> the values that work with this provider.
        needed: Names of fields that must be set.
        refused: Field name -> why it must not be set.
        hosts: Endings of its host names; empty if they may have any name.
        topic_options: The accepted topic options; None for all. Other options are left out of new topics.
        minimum_segment_hours: The shortest accepted ``segment.ms``.
        request_max_bytes: The size of the largest accepted request, if documented.
        caveats: Differences from Apache Kafka, one sentence each.
        sources: The pages with these facts.
    """

    title: str
    defaults: Mapping[str, Any] = field(default_factory=dict)
    allowed: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    needed: tuple[str, ...] = ()
    refused: Mapping[str, str] = field(default_factory=dict)
    hosts: tuple[str, ...] = ()
    topic_options: frozenset[str] | None = None
    minimum_segment_hours: int = 1
    request_max_bytes: int | None = None
    caveats: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()

    def fit_options(self, options: Mapping[str, str]) -> dict[str, str]:
        """The options of a topic that this provider accepts."""
        kept = {
            name: value for name, value in options.items() if self.topic_options is None or name in self.topic_options
        }
        if "segment.ms" in kept:
            kept["segment.ms"] = str(max(int(kept["segment.ms"]), self.minimum_segment_hours * _HOUR_MS))
        return kept


_LOGIN = ("kafka_username", "kafka_password")
_TLS = {"kafka_security_protocol": ("SASL_SSL",)}
_THREE_COPIES = {"topic_replication_factor": 3}
_NO_COMPACTION_BOUND = (
    "max.compaction.lag.ms cannot be set: an erased person's old state leaves the changelog when the service "
    "compacts the topic, not within a day."
)
_MSK_PAGES = "https://docs.aws.amazon.com/msk/latest/developerguide/"
_AZURE_PAGES = "https://learn.microsoft.com/azure/event-hubs/"
_MSK_IAM = Provider(
    "Amazon MSK with IAM",
    defaults={"kafka_security_protocol": "SASL_SSL", "kafka_sasl_mechanism": "OAUTHBEARER", **_THREE_COPIES},
    allowed={**_TLS, "kafka_sasl_mechanism": ("OAUTHBEARER",)},
    needed=("kafka_aws_region",),
    refused={
        "kafka_username": "the identity is the AWS role or key that the process finds",
        "kafka_password": "the identity is the AWS role or key that the process finds",
        "kafka_oauth_token_file": "tokens are signed with the AWS credentials",
    },
    hosts=(".amazonaws.com", ".amazonaws.com.cn"),
    caveats=(
        "The port is 9098; permissions are IAM policies (kafka-cluster:*), not Kafka's ACLs.",
        "Needs the extra: pip install 'nexus-stream[msk-iam]'.",
    ),
    sources=("https://github.com/aws/aws-msk-iam-sasl-signer-python", f"{_MSK_PAGES}iam-access-control.html"),
)

PROVIDERS: dict[ProviderName, Provider] = {
    "local": Provider("A broker of your own, or the embedded one"),
    "confluent": Provider(
        "Confluent Cloud",
        defaults={
            "kafka_security_protocol": "SASL_SSL",
            "kafka_sasl_mechanism": "PLAIN",
            "kafka_request_timeout_seconds": 30.0,
            "kafka_session_timeout_seconds": 45.0,
            **_THREE_COPIES,
        },
        allowed={**_TLS, "kafka_sasl_mechanism": ("PLAIN", "OAUTHBEARER"), "topic_replication_factor": (3,)},
        hosts=(".confluent.cloud",),
        # Basic and Standard clusters: 4 hours; a Dedicated cluster accepts 10 minutes.
        minimum_segment_hours=4,
        caveats=(
            "The username is an API key of the cluster (not a Cloud API key), the password its secret.",
            "A deleted record may stay four hours longer than elsewhere: segment.ms is at least four hours.",
        ),
        sources=(
            "https://docs.confluent.io/cloud/current/topics/manage.html",
            "https://docs.confluent.io/cloud/current/client-apps/config-client.html",
            "https://github.com/twmb/franz-go/issues/751",
        ),
    ),
    "redpanda": Provider(
        "Redpanda Cloud",
        defaults={
            "kafka_security_protocol": "SASL_SSL",
            "kafka_sasl_mechanism": "SCRAM-SHA-256",
            "kafka_request_timeout_seconds": 20.0,
            **_THREE_COPIES,
        },
        allowed={**_TLS, "kafka_sasl_mechanism": ("SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER")},
        # Redpanda acknowledges by Raft's majority; it has no min.insync.replicas.
        topic_options=frozenset(
            {
                "cleanup.policy",
                "retention.ms",
                "segment.ms",
                "max.message.bytes",
                "max.compaction.lag.ms",
                "message.timestamp.type",
            }
        ),
        caveats=("A new topic gets three replicas, even if one is requested.",),
        sources=(
            "https://docs.redpanda.com/redpanda-cloud/develop/topics/create-topic/",
            "https://docs.redpanda.com/streaming/current/reference/properties/topic-properties/",
        ),
    ),
    "aiven": Provider(
        "Aiven for Apache Kafka",
        defaults={
            "kafka_security_protocol": "SASL_SSL",
            "kafka_sasl_mechanism": "SCRAM-SHA-256",
            "kafka_request_timeout_seconds": 20.0,
            **_THREE_COPIES,
        },
        allowed={
            "kafka_security_protocol": ("SASL_SSL", "SSL"),
            "kafka_sasl_mechanism": ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"),
        },
        # Each project has its own certificate authority.
        needed=("kafka_ca_file",),
        caveats=(
            "SASL and client certificates have different ports; the console shows both.",
            "With NEXUS_KAFKA_SECURITY_PROTOCOL=SSL set the client certificate's two files instead of a login.",
        ),
        sources=(
            "https://aiven.io/docs/products/kafka/howto/connect-with-python",
            "https://aiven.io/docs/products/kafka/howto/kafka-sasl-auth",
        ),
    ),
    "msk-scram": Provider(
        "Amazon MSK with SASL/SCRAM",
        defaults={"kafka_security_protocol": "SASL_SSL", "kafka_sasl_mechanism": "SCRAM-SHA-512", **_THREE_COPIES},
        allowed={**_TLS, "kafka_sasl_mechanism": ("SCRAM-SHA-512",)},
        refused={"kafka_aws_region": "it belongs to msk-iam"},
        hosts=(".amazonaws.com", ".amazonaws.com.cn"),
        caveats=(
            "The port is 9096; the login is a secret whose name begins with AmazonMSK_, with a KMS key of your own.",
            "A cluster without ACLs allows every login everything: add ACLs, then forbid the rest.",
        ),
        sources=(f"{_MSK_PAGES}msk-password-limitations.html", f"{_MSK_PAGES}msk-password-tutorial.html"),
    ),
    "msk-iam": _MSK_IAM,
    "msk-serverless": replace(
        _MSK_IAM,
        title="Amazon MSK Serverless",
        topic_options=frozenset({"cleanup.policy", "retention.ms", "max.message.bytes"}),
        caveats=(*_MSK_IAM.caveats, _NO_COMPACTION_BOUND),
        sources=(*_MSK_IAM.sources, f"{_MSK_PAGES}serverless-config.html"),
    ),
    "eventhubs": Provider(
        "Azure Event Hubs",
        defaults={
            "kafka_security_protocol": "SASL_SSL",
            "kafka_sasl_mechanism": "PLAIN",
            "kafka_username": "$ConnectionString",
            # Azure closes connections that were idle for 240 s. Request timeouts below 20 s behave unpredictably.
            "kafka_connections_max_idle_seconds": 180.0,
            "kafka_metadata_max_age_seconds": 180.0,
            "kafka_request_timeout_seconds": 30.0,
            "kafka_request_max_bytes": 1_000_000,
            # A namespace of the Standard tier keeps records for seven days.
            "dead_letter_retention_hours": 168,
        },
        allowed={**_TLS, "kafka_sasl_mechanism": ("PLAIN", "OAUTHBEARER")},
        hosts=(".servicebus.windows.net", ".servicebus.chinacloudapi.cn", ".servicebus.usgovcloudapi.net"),
        topic_options=frozenset({"cleanup.policy", "retention.ms"}),
        # The service closes the connection on a larger request.
        request_max_bytes=1_046_528,
        caveats=(
            "Not the Basic tier: it has neither the Kafka endpoint nor compaction.",
            "The password is the namespace's connection string, from Endpoint= on.",
            _NO_COMPACTION_BOUND,
            "A producer is idempotent only if the namespace allows it. The gateway checks, and works without.",
        ),
        sources=(
            f"{_AZURE_PAGES}apache-kafka-configurations",
            f"{_AZURE_PAGES}log-compaction",
            f"{_AZURE_PAGES}event-hubs-quotas",
        ),
    ),
}
assert set(PROVIDERS) == set(get_args(ProviderName))  # noqa: S101 - at import, so that a new provider is complete
