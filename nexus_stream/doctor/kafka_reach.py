"""Connect to each bootstrap server, and explain why a connection fails: name, port, TLS or SASL.

aiokafka's clients try all servers and report every failure as "unable to bootstrap". This module uses aiokafka's single
connections, which report the reason.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from typing import Final

from aiokafka import errors as kafka_errors
from aiokafka.conn import create_conn

from nexus_stream.doctor.finding import Finding, error, ok, warning
from nexus_stream.doctor.network import Trouble, trouble_of
from nexus_stream.doctor.running import REACH_SECONDS
from nexus_stream.kafka.clients import client_options
from nexus_stream.settings import Settings

__all__ = ["diagnose", "parse_bootstrap", "reach_brokers"]

_ADDRESS: Final = "NEXUS_KAFKA_BOOTSTRAP_SERVERS"
_CHECK: Final = "kafka.reachable"
_PROTOCOL_TEST_SECONDS: Final = 1.5
_WHY: Final = "No process can read or write a record."


def parse_bootstrap(servers: str) -> list[tuple[str, int]]:
    """Parse ``host:port,[::1]:port`` to pairs. The default port is 9092."""
    pairs = []
    for server in servers.split(","):
        text = server.strip().rpartition("://")[2]
        host, _, port = text.rpartition(":") if not text.endswith("]") and ":" in text else (text, "", "9092")
        pairs.append((host.strip("[]"), int(port) if port.isdigit() else 9092))
    return pairs


async def reach_brokers(settings: Settings, seconds: float = REACH_SECONDS) -> tuple[bool, list[Finding]]:
    """Try every bootstrap server at once. Return whether one accepts the connection, and the findings."""
    places = parse_bootstrap(settings.kafka_bootstrap_servers)
    troubles = await asyncio.gather(*(_try(settings, host, port, seconds) for host, port in places))
    failed = [trouble for trouble in troubles if trouble is not None]
    protocol = settings.kafka_security_protocol
    if not failed:
        return True, [ok(_CHECK, f"{len(places)} bootstrap server(s) answer and accept the connection ({protocol})")]
    if len(failed) < len(places):
        why = "A client that starts when the others are down does not find the cluster."
        return True, [warning(_CHECK, trouble.found, why, f"{_ADDRESS}: {trouble.fix}") for trouble in failed]
    return False, [error(_CHECK, trouble.found, _WHY, _with_variable(trouble)) for trouble in failed]


def _with_variable(trouble: Trouble) -> str:
    return trouble.fix if "NEXUS_" in trouble.fix else f"{_ADDRESS}: {trouble.fix}."


async def _try(settings: Settings, host: str, port: int, seconds: float) -> Trouble | None:
    # Keep only the options of a single connection.
    options = {
        name: value
        for name, value in client_options(settings).items()
        if name in {"security_protocol", "ssl_context"} or name.startswith("sasl_")
    }
    options["request_timeout_ms"] = int(seconds * 1000)
    try:
        async with asyncio.timeout(seconds):
            connection = await create_conn(host, port, client_id="nexus-doctor", **options)
    except (kafka_errors.KafkaError, OSError, TimeoutError, EOFError) as failure:
        trouble = diagnose(failure, f"{host}:{port}", settings)
        may_be_tls = trouble.kind in {"closed", "timeout", "other", "tls"}
        if may_be_tls and await _uses_other_protocol(settings, host, port):
            actual, configured = ("TLS", "plain text") if _is_plain(settings) else ("plain text", "TLS")
            found = f"{host}:{port}: the server uses {actual}, but the settings say {configured}"
            return Trouble("tls", found, _protocol_fix(settings))
        return trouble
    connection.close()
    return None


def diagnose(failure: BaseException, place: str, settings: Settings) -> Trouble:
    """Explain an exception of aiokafka's connection."""
    match failure:
        case kafka_errors.SaslAuthenticationFailed():
            fix = "NEXUS_KAFKA_USERNAME, NEXUS_KAFKA_PASSWORD: set a login that the cluster has for this mechanism."
            return Trouble("auth", f"{place}: refuses the login ({settings.kafka_sasl_mechanism})", fix)
        case kafka_errors.UnsupportedSaslMechanismError():
            fix = "NEXUS_KAFKA_SASL_MECHANISM: set one that the listener offers (see its sasl.enabled.mechanisms)."
            return Trouble("sasl", f"{place}: does not offer {settings.kafka_sasl_mechanism}", fix)
        case kafka_errors.IllegalSaslStateError():
            fix = "NEXUS_KAFKA_SECURITY_PROTOCOL: PLAINTEXT or SSL, or use the cluster's SASL port."
            return Trouble("sasl", f"{place}: this listener does not accept a login", fix)
        case kafka_errors.KafkaError():
            # aiokafka may wrap the reason as the cause.
            inner = failure.__cause__ or failure.__context__
            if isinstance(inner, OSError | EOFError):
                return diagnose(inner, place, settings)
            fix = "check that a Kafka broker listens there, and whether it requires TLS or SASL"
            if isinstance(failure, kafka_errors.KafkaConnectionError):
                return Trouble("closed", f"{place}: the server closed the connection", fix)
            return Trouble("other", f"{place}: {type(failure).__name__}", fix)
    trouble = trouble_of(failure, place)
    if trouble.kind == "certificate":
        return Trouble(trouble.kind, trouble.found, f"NEXUS_KAFKA_CA_FILE: {trouble.fix}.")
    if trouble.kind == "tls" and "does not use TLS" in trouble.found:
        return Trouble(trouble.kind, trouble.found, _protocol_fix(settings))
    if trouble.kind == "tls":
        return Trouble(
            trouble.kind, trouble.found, f"NEXUS_KAFKA_CLIENT_CERT_FILE, NEXUS_KAFKA_CLIENT_KEY_FILE: {trouble.fix}."
        )
    return trouble


def _protocol_fix(settings: Settings) -> str:
    other = {"PLAINTEXT": "SSL", "SSL": "PLAINTEXT", "SASL_PLAINTEXT": "SASL_SSL", "SASL_SSL": "SASL_PLAINTEXT"}
    protocol = settings.kafka_security_protocol
    return f"NEXUS_KAFKA_SECURITY_PROTOCOL: {other[protocol]} instead of {protocol}, or use the cluster's other port."


def _is_plain(settings: Settings) -> bool:
    return settings.kafka_security_protocol.endswith("PLAINTEXT")


async def _uses_other_protocol(settings: Settings, host: str, port: int) -> bool:
    """Whether the port uses TLS although plain text is configured, or plain text although TLS is configured.

    A broker does not report this mistake. It reads the wrong protocol as an incomplete request and waits.
    """
    if _is_plain(settings):
        return await _uses_tls(host, port, _PROTOCOL_TEST_SECONDS)
    try:
        async with asyncio.timeout(_PROTOCOL_TEST_SECONDS):
            # The connection requests the broker's versions. A broker answers this before any login.
            connection = await create_conn(host, port, client_id="nexus-doctor", security_protocol="PLAINTEXT")
    except (kafka_errors.KafkaError, OSError, TimeoutError, EOFError):
        return False
    connection.close()
    return True


async def _uses_tls(host: str, port: int, seconds: float) -> bool:
    """Whether the server answers a TLS handshake. No certificate check is needed: no data is sent."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        async with asyncio.timeout(seconds):
            _, writer = await asyncio.open_connection(host, port, ssl=context)
    except ssl.SSLError as failure:
        # A server that requires a client certificate answers with a TLS error.
        return "CERTIFICATE_REQUIRED" in str(failure.reason) or "HANDSHAKE_FAILURE" in str(failure.reason)
    except (OSError, TimeoutError):
        return False
    with contextlib.suppress(Exception):
        writer.transport.abort()
    return True
