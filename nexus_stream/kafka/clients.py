"""How every process connects to the broker: the aiokafka options from the settings.

worker/options.py translates the settings for Faust.
"""

from __future__ import annotations

import asyncio
import ssl
from typing import Any

from aiokafka import AIOKafkaConsumer

from nexus_stream.errors import BrokerUnavailableError, ConfigurationError
from nexus_stream.kafka.fetched import read_everything
from nexus_stream.kafka.tokens import token_provider
from nexus_stream.settings import Settings

__all__ = ["EMBEDDED_CLUSTER_PREFIX", "batch_bytes", "client_options", "is_embedded", "ssl_context", "stop_consumer"]

# Cluster ids of the embedded broker begin with this, so that clients can adapt to its differences.
EMBEDDED_CLUSTER_PREFIX = "embedded-"

# Every process that connects imports this module, before it makes a consumer.
read_everything()


def ssl_context(settings: Settings) -> ssl.SSLContext | None:
    """The TLS context of the broker connection, or None for plain text.

    Raises:
        ConfigurationError: a certificate file cannot be read.
    """
    if settings.kafka_security_protocol not in {"SSL", "SASL_SSL"}:
        return None
    try:
        context = ssl.create_default_context(cafile=settings.kafka_ca_file and str(settings.kafka_ca_file))
        if settings.kafka_client_cert_file is not None:
            context.load_cert_chain(str(settings.kafka_client_cert_file), str(settings.kafka_client_key_file))
    except OSError as error:
        raise ConfigurationError(
            "NEXUS_KAFKA_CA_FILE, NEXUS_KAFKA_CLIENT_CERT_FILE, NEXUS_KAFKA_CLIENT_KEY_FILE: "
            f"a file cannot be read or is no PEM certificate ({error.strerror or type(error).__name__})."
        ) from error
    return context


def client_options(settings: Settings) -> dict[str, Any]:
    """Keyword arguments for any aiokafka client: addresses, TLS, SASL, timeouts.

    Raises:
        ConfigurationError: a certificate file cannot be read, or there is no way to get a token.
    """
    options: dict[str, Any] = {
        "bootstrap_servers": settings.kafka_bootstrap_servers,
        "security_protocol": settings.kafka_security_protocol,
        "ssl_context": ssl_context(settings),
        "request_timeout_ms": int(settings.kafka_request_timeout_seconds * 1000),
        "connections_max_idle_ms": int(settings.kafka_connections_max_idle_seconds * 1000),
        "metadata_max_age_ms": int(settings.kafka_metadata_max_age_seconds * 1000),
    }
    if not settings.kafka_security_protocol.startswith("SASL"):
        return options
    options["sasl_mechanism"] = settings.kafka_sasl_mechanism
    if settings.kafka_sasl_mechanism == "OAUTHBEARER":
        options["sasl_oauth_token_provider"] = token_provider(settings)
    else:
        options |= {
            "sasl_plain_username": settings.kafka_username,
            "sasl_plain_password": settings.kafka_password and settings.kafka_password.get_secret_value(),
        }
    return options


def batch_bytes(settings: Settings, preferred: int) -> int:
    """The largest batch of a producer: aiokafka sends one batch of each partition in a request."""
    if settings.kafka_request_max_bytes is None:
        return preferred
    return min(preferred, settings.kafka_request_max_bytes // (settings.topic_partitions + 1))


async def stop_consumer(consumer: AIOKafkaConsumer) -> None:
    """Stop a consumer, also while its broker is down."""
    try:
        await consumer.stop()
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        # Nobody cancelled this task. While a broker is down, stop() raises the cancellation of its own fetch task
        # (aio-libs/aiokafka#647), and leaves its connections open.
        await consumer._client.close()


def is_embedded(cluster_id: str | None) -> bool:
    """Whether the cluster id belongs to the embedded broker.

    The embedded broker reports a wrong end of a partition: one past the *first* record of the last batch (measured,
    Tansu 0.6: three records in one batch, end offset 1). A reader that stops at the end, like Faust's table recovery,
    misses the rest of that batch. Therefore producers send it one record per batch.
    """
    return cluster_id is not None and cluster_id.startswith(EMBEDDED_CLUSTER_PREFIX)


def unavailable(settings: Settings, error: BaseException) -> BrokerUnavailableError:
    """The error to raise when no broker answers."""
    return BrokerUnavailableError(
        f"No broker answers at {settings.kafka_bootstrap_servers} (NEXUS_KAFKA_BOOTSTRAP_SERVERS): "
        f"{type(error).__name__}"
    )
