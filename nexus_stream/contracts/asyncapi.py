"""The AsyncAPI 3 document: channels, keys, headers, payloads and Kafka's topic options.

Made from `declared_topics` with the default settings, and from the header and value records. To:
``contracts/asyncapi.yaml``, whose payloads refer to the JSON Schemas in the same directory.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nexus_stream.contracts.headers import IngestionHeaders
from nexus_stream.contracts.schemas import (
    CONVERSATION,
    DEAD_LETTER_HEADERS,
    ENRICHED,
    ENRICHED_HEADERS,
    ERASED,
    ERASED_HEADERS,
    PROCESS_STATUS,
    SESSION_COMMAND,
    json_schema,
)
from nexus_stream.contracts.topics import TopicSpec, declared_topics
from nexus_stream.errors import ConfigurationError
from nexus_stream.settings import Settings

__all__ = ["ASYNCAPI", "asyncapi_document", "asyncapi_text"]

ASYNCAPI = "asyncapi.yaml"

_ASYNCAPI_VERSION = "3.0.0"
_KAFKA_BINDING = "0.5.0"
# Only the options that the Kafka channel binding defines, with its types. `nexus topics` shows the others.
_LIST_OPTION = "cleanup.policy"
_NUMBER_OPTIONS = ("retention.ms", "max.message.bytes")
_SESSION_KEY = (
    "The session key, UTF-8: the session id, or <tenant>:<session> with a tenant. Without a tenant, a session id that "
    "holds a colon is written as :<session>."
)


def asyncapi_document() -> dict[str, Any]:
    """The document as plain data."""
    settings = Settings()
    topics = {spec.name: spec for spec in declared_topics(settings)}
    return {
        "asyncapi": _ASYNCAPI_VERSION,
        "info": {
            "title": "nexus-stream",
            "version": "1.0.0",
            "description": (
                "A website's chat in, one current record per prospect out. Version 1 only gets additional fields: "
                "ignore fields that you do not know. Partitions, replicas and retention are the defaults of the "
                "settings. NEXUS_TOPIC_PREFIX comes before every topic's name. Every channel delivers at least once."
            ),
            "license": {"name": "MIT"},
        },
        "defaultContentType": "application/json",
        "servers": {
            "development": {
                "host": settings.kafka_bootstrap_servers,
                "protocol": "kafka",
                "description": "Any Kafka cluster: NEXUS_KAFKA_BOOTSTRAP_SERVERS; settings enable TLS and SASL.",
            }
        },
        "channels": {
            "conversations": _channel(
                topics[settings.ingestion_topic],
                ("conversation", "sessionCommand"),
                "Snapshots of conversations; each holds the whole history. Also commands about one session, with the "
                "header nexus-command. Every client that may write here may erase sessions: see "
                "docs/howto/privacy.md.",
            ),
            "enrichedProspects": _channel(
                topics[settings.enriched_topic],
                ("enrichedProspect", "erasedSession"),
                "One cumulative record per session after each snapshot. To find a session's newest record, order by "
                "snapshot_at_ms, then enriched_at. A record with ce_type nexus.prospect.erased.v1 means that the "
                "session was erased: delete your data of it.",
            ),
            "deadLetters": _channel(
                topics[settings.dead_letter_topic],
                ("deadLetter",),
                "Records that could not be processed, as received, with the reason. A record with the header "
                "nexus-marker and without nexus-reason is not a dead letter but an operator's mark. Skip it.",
            ),
            "processStatus": _channel(
                topics[settings.status_topic],
                ("processStatus",),
                "The status of each process, every two seconds. A null value: the process was told to stop, or an "
                "operator removed it.",
            ),
        },
        "operations": {
            "receiveConversations": {
                "action": "receive",
                "channel": {"$ref": "#/channels/conversations"},
                "summary": "Any producer may send. The gateway sends for browsers.",
            },
            "publishEnrichedProspects": {
                "action": "send",
                "channel": {"$ref": "#/channels/enrichedProspects"},
                "summary": "Any service may subscribe, in its own consumer group.",
            },
            "setDeadLettersAside": {
                "action": "send",
                "channel": {"$ref": "#/channels/deadLetters"},
                "summary": "Operators read these.",
            },
            "publishStatus": {
                "action": "send",
                "channel": {"$ref": "#/channels/processStatus"},
                "summary": "The console reads these. Your own monitor may read them too.",
            },
        },
        "components": {
            "messages": {
                "conversation": _message(
                    "Conversation snapshot",
                    json_schema(IngestionHeaders, "validation"),
                    {"$ref": f"./{CONVERSATION}"},
                    f"{_SESSION_KEY} A record with another key is accepted, and rerouted to its session's key.",
                ),
                "enrichedProspect": _message(
                    "Enriched prospect, version 1",
                    {"$ref": f"./{ENRICHED_HEADERS}"},
                    {"$ref": f"./{ENRICHED}"},
                    _SESSION_KEY,
                ),
                "erasedSession": _message(
                    "Erased session, version 1",
                    {"$ref": f"./{ERASED_HEADERS}"},
                    {"$ref": f"./{ERASED}"},
                    _SESSION_KEY,
                ),
                "sessionCommand": _message(
                    "Session command, version 1",
                    json_schema(IngestionHeaders, "validation"),
                    {"$ref": f"./{SESSION_COMMAND}"},
                    _SESSION_KEY,
                ),
                "deadLetter": _message(
                    "Dead letter",
                    {"$ref": f"./{DEAD_LETTER_HEADERS}"},
                    {"description": "The bytes as received, JSON or not."},
                    "The key as received, or none.",
                    content_type="application/octet-stream",
                ),
                "processStatus": _message(
                    "Process status, version 1",
                    {"type": "object", "description": "None."},
                    {"$ref": f"./{PROCESS_STATUS}"},
                    "The process id: the same after a restart in the same place.",
                ),
            }
        },
    }


def asyncapi_text() -> str:
    """The document as YAML.

    Raises:
        ConfigurationError: PyYAML is not installed. Only this document needs it.
    """
    try:
        import yaml
    except ImportError as error:
        raise ConfigurationError("The AsyncAPI document needs PyYAML: pip install 'nexus-stream[test]'.") from error
    header = "# Generated by `nexus contracts write` from nexus_stream/contracts: do not edit.\n"
    text: str = yaml.safe_dump(asyncapi_document(), sort_keys=False, allow_unicode=True, width=100)
    return header + text


def _channel(spec: TopicSpec, messages: Sequence[str], description: str) -> dict[str, Any]:
    options: dict[str, Any] = {_LIST_OPTION: spec.configs[_LIST_OPTION].split(",")}
    options |= {name: int(spec.configs[name]) for name in _NUMBER_OPTIONS if name in spec.configs}
    return {
        "address": spec.name,
        "description": description,
        "messages": {message: {"$ref": f"#/components/messages/{message}"} for message in messages},
        "bindings": {
            "kafka": {
                "partitions": spec.partitions,
                "replicas": spec.replication_factor,
                "topicConfiguration": options,
                "bindingVersion": _KAFKA_BINDING,
            }
        },
    }


def _message(
    title: str, headers: dict[str, Any], payload: dict[str, Any], key: str, *, content_type: str = "application/json"
) -> dict[str, Any]:
    return {
        "title": title,
        "contentType": content_type,
        "headers": headers,
        "payload": payload,
        "bindings": {
            "kafka": {"key": {"type": "string", "description": key}, "bindingVersion": _KAFKA_BINDING},
        },
    }
