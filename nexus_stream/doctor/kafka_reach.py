"""Why a broker cannot be used: name, port, TLS, SASL; found by speaking to each bootstrap server step by step.

From: settings. To: kafka_checks.py, which goes on only when a server lets us in. aiokafka's own clients try all servers
and then say "unable to bootstrap", whatever the reason was; its connections, which this uses, say which.
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
_OTHER_WAY_SECONDS: Final = 1.5
_WHY: Final = "No process can read or write a record."


def parse_bootstrap(servers: str) -> list[tuple[str, int]]:
    """``host:port,[::1]:port`` -> pairs; 9092 where no port is given."""
    pairs = []
    for server in servers.split(","):
        text = server.strip().rpartition("://")[2]
        host, _, port = text.rpartition(":") if not text.endswith("]") and ":" in text else (text, "", "9092")
        pairs.append((host.strip("[]"), int(port) if port.isdigit() else 9092))
    return pairs


async def reach_brokers(settings: Settings, seconds: float = REACH_SECONDS) -> tuple[bool, list[Finding]]:
    """Try every bootstrap server at once; whether one lets us in, and what was found."""
    places = parse_bootstrap(settings.kafka_bootstrap_servers)
    troubles = await asyncio.gather(*(_try(settings, host, port, seconds) for host, port in places))
    failed = [trouble for trouble in troubles if trouble is not None]
    protocol = settings.kafka_security_protocol
    if not failed:
        return True, [ok(_CHECK, f"{len(places)} bootstrap server(s) answer and let us in ({protocol})")]
    if len(failed) < len(places):
        why = "A client that starts while the others are down does not find the cluster."
        return True, [warning(_CHECK, trouble.found, why, f"{_ADDRESS}: {trouble.fix}") for trouble in failed]
    return False, [error(_CHECK, trouble.found, _WHY, _with_variable(trouble)) for trouble in failed]


def _with_variable(trouble: Trouble) -> str:
    return trouble.fix if "NEXUS_" in trouble.fix else f"{_ADDRESS}: {trouble.fix}."


async def _try(settings: Settings, host: str, port: int, seconds: float) -> Trouble | None:
    # Of one connection: a client's other options concern its whole life.
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
        in_doubt = trouble.kind in {"closed", "timeout", "other", "tls"}
        if in_doubt and await _speaks_the_other_way(settings, host, port):
            spoken, tried = ("TLS", "plain text") if _is_plain(settings) else ("plain text", "TLS")
            return Trouble("tls", f"{host}:{port}: speaks {spoken}, and is spoken to in {tried}", _wrong_way(settings))
        return trouble
    connection.close()
    return None


def diagnose(failure: BaseException, place: str, settings: Settings) -> Trouble:
    """What an exception of aiokafka's connection means."""
    match failure:
        case kafka_errors.SaslAuthenticationFailed():
            fix = "NEXUS_KAFKA_USERNAME, NEXUS_KAFKA_PASSWORD: set what the cluster knows, for this mechanism."
            return Trouble("auth", f"{place}: refuses the login ({settings.kafka_sasl_mechanism})", fix)
        case kafka_errors.UnsupportedSaslMechanismError():
            fix = "NEXUS_KAFKA_SASL_MECHANISM: set one the listener offers (see its sasl.enabled.mechanisms)."
            return Trouble("sasl", f"{place}: does not offer {settings.kafka_sasl_mechanism}", fix)
        case kafka_errors.IllegalSaslStateError():
            fix = "NEXUS_KAFKA_SECURITY_PROTOCOL: PLAINTEXT or SSL, or use the cluster's SASL port."
            return Trouble("sasl", f"{place}: this listener wants no login", fix)
        case kafka_errors.KafkaError():
            # The reason is the cause where aiokafka wraps one.
            inner = failure.__cause__ or failure.__context__
            if isinstance(inner, OSError | EOFError):
                return diagnose(inner, place, settings)
            fix = "check that a Kafka broker listens there, and whether it wants TLS or SASL"
            if isinstance(failure, kafka_errors.KafkaConnectionError):
                return Trouble("closed", f"{place}: the connection was closed by the other side", fix)
            return Trouble("other", f"{place}: {type(failure).__name__}", fix)
    trouble = trouble_of(failure, place)
    if trouble.kind == "certificate":
        return Trouble(trouble.kind, trouble.found, f"NEXUS_KAFKA_CA_FILE: {trouble.fix}.")
    if trouble.kind == "tls" and "speak TLS" in trouble.found:
        return Trouble(trouble.kind, trouble.found, _wrong_way(settings))
    if trouble.kind == "tls":
        return Trouble(
            trouble.kind, trouble.found, f"NEXUS_KAFKA_CLIENT_CERT_FILE, NEXUS_KAFKA_CLIENT_KEY_FILE: {trouble.fix}."
        )
    return trouble


def _wrong_way(settings: Settings) -> str:
    other = {"PLAINTEXT": "SSL", "SSL": "PLAINTEXT", "SASL_PLAINTEXT": "SASL_SSL", "SASL_SSL": "SASL_PLAINTEXT"}
    protocol = settings.kafka_security_protocol
    return f"NEXUS_KAFKA_SECURITY_PROTOCOL: {other[protocol]} instead of {protocol}, or use the cluster's other port."


def _is_plain(settings: Settings) -> bool:
    return settings.kafka_security_protocol.endswith("PLAINTEXT")


async def _speaks_the_other_way(settings: Settings, host: str, port: int) -> bool:
    """Whether the port answers in TLS although plain text is configured, or the other way round.

    A broker does not say so: to it, the one is an endless request of the other.
    """
    if _is_plain(settings):
        return await _speaks_tls(host, port, _OTHER_WAY_SECONDS)
    try:
        async with asyncio.timeout(_OTHER_WAY_SECONDS):
            # Asks for its versions, which it tells before any login.
            connection = await create_conn(host, port, client_id="nexus-doctor", security_protocol="PLAINTEXT")
    except (kafka_errors.KafkaError, OSError, TimeoutError, EOFError):
        return False
    connection.close()
    return True


async def _speaks_tls(host: str, port: int, seconds: float) -> bool:
    """Whether a TLS handshake gets a TLS answer. Verifies nothing: nothing is sent through it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        async with asyncio.timeout(seconds):
            _, writer = await asyncio.open_connection(host, port, ssl=context)
    except ssl.SSLError as failure:
        # A server that wants a certificate of ours refuses in TLS.
        return "CERTIFICATE_REQUIRED" in str(failure.reason) or "HANDSHAKE_FAILURE" in str(failure.reason)
    except (OSError, TimeoutError):
        return False
    with contextlib.suppress(Exception):
        writer.transport.abort()
    return True
