"""Faust's options, its credentials, and the topics it reads, with the reason of each choice."""

from __future__ import annotations

from typing import Any

import faust

from nexus_stream.host.free_ports import free_port
from nexus_stream.kafka.clients import ssl_context
from nexus_stream.kafka.tokens import token_provider
from nexus_stream.observability.logs import logging_config
from nexus_stream.settings import Settings
from nexus_stream.worker.directory import WorkerDirectory
from nexus_stream.worker.recovery import WorkerTables

__all__ = ["credentials", "faust_options", "no_ack_topic"]


def faust_options(settings: Settings, directory: WorkerDirectory) -> dict[str, Any]:
    """Keyword arguments of the Faust app, except its log handlers and its worker class."""
    brokers = ";".join(f"kafka://{server.strip()}" for server in settings.kafka_bootstrap_servers.split(","))
    web_port = settings.web_port or free_port()
    return {
        "broker": brokers,
        "broker_credentials": credentials(settings),
        "version": 1,
        "autodiscover": False,
        "datadir": str(directory.path),
        "store": "rocksdb://" if settings.table_store == "rocksdb" else "memory://",
        "logging_config": logging_config(),
        # `nexus topics apply` creates the topics. The worker checks them at start.
        "topic_allow_declare": False,
        "topic_disable_leader": True,
        "topic_partitions": settings.topic_partitions,
        "topic_replication_factor": settings.topic_replication_factor,
        # With a standby replica, a worker that survived another's kill -9 ended with "persisted offset is higher than
        # highwater". The local directories and the changelog are enough.
        "table_standby_replicas": 0,
        "processing_guarantee": "at_least_once",
        # At a stop the stage waits for running work within a time bound. Faust would wait for all events, unbounded.
        "stream_wait_empty": False,
        # Records between the consumer and the agent's loop. A larger buffer reads faster but needs more memory: a
        # record may have NEXUS_MAX_BODY_BYTES.
        "stream_buffer_maxsize": 2000,
        "broker_max_poll_records": 2000,
        "stream_recovery_delay": 0.0,
        "consumer_auto_offset_reset": "earliest",
        "broker_session_timeout": settings.kafka_session_timeout_seconds,
        "broker_heartbeat_interval": settings.kafka_heartbeat_interval_seconds,
        "broker_rebalance_timeout": settings.kafka_rebalance_timeout_seconds,
        "broker_request_timeout": max(
            settings.kafka_request_timeout_seconds, settings.kafka_session_timeout_seconds + 5
        ),
        "consumer_connections_max_idle_ms": int(settings.kafka_connections_max_idle_seconds * 1000),
        "consumer_metadata_max_age_ms": int(settings.kafka_metadata_max_age_seconds * 1000),
        "producer_connections_max_idle_ms": int(settings.kafka_connections_max_idle_seconds * 1000),
        "producer_metadata_max_age_ms": int(settings.kafka_metadata_max_age_seconds * 1000),
        "broker_max_poll_interval": settings.kafka_max_poll_interval_seconds,
        "producer_request_timeout": settings.kafka_request_timeout_seconds,
        "TableManager": WorkerTables,
        "web_enabled": True,
        "web_bind": settings.web_host,
        "web_host": settings.web_host,
        "web_port": web_port,
        # Faust's pages would show the tables' contents, which are personal data, to anyone.
        "web_tables_enabled": False,
        "web_router_enabled": False,
        "web_cors_options": None,
    }


def credentials(settings: Settings) -> Any:
    """The login of the settings as Faust's credentials; None for plain text."""
    context = ssl_context(settings)
    if settings.kafka_security_protocol.startswith("SASL") and settings.kafka_sasl_mechanism == "OAUTHBEARER":
        return faust.OAuthCredentials(oauth_cb=token_provider(settings), ssl_context=context)
    if settings.kafka_security_protocol.startswith("SASL"):
        assert settings.kafka_password is not None  # noqa: S101 - checked by load_settings
        return faust.SASLCredentials(
            username=settings.kafka_username,
            password=settings.kafka_password.get_secret_value(),
            mechanism=settings.kafka_sasl_mechanism,
            ssl_context=context,
        )
    return None if context is None else faust.SSLCredentials(context)


def no_ack_topic(app: faust.App, name: str) -> Any:
    """A topic whose offsets Faust neither tracks nor commits, and whose bytes it does not parse.

    Without ``raw`` Faust would parse every value as JSON, and the first invalid value would crash the agent.
    """
    return app.topic(
        name,
        key_type=bytes,
        value_type=bytes,
        key_serializer="raw",
        value_serializer="raw",
        acks=False,
        allow_empty=True,
    )
