"""Check at start, on one connection, that the broker accepts the login and grants the permissions of a role.

Kafka's clients cannot tell a refused login from a broker that is down, so they retry for ever. A missing permission
shows later, as an error of some request. The errors here name the reason and the setting or permission to change. They
hold no secret.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

from aiokafka import errors as kafka_errors
from aiokafka.conn import AIOKafkaConnection, collect_hosts
from aiokafka.protocol.coordination import FindCoordinatorRequest
from aiokafka.protocol.metadata import MetadataRequest

from nexus_stream.errors import AccessDeniedError, BrokerUnavailableError, ConfigurationError
from nexus_stream.kafka.access_requests import GroupAccessRequest, TopicAccessRequest, is_supported
from nexus_stream.kafka.clients import client_options
from nexus_stream.kafka.permissions import Operation, Permission, PermissionRole, acl_command, permissions
from nexus_stream.settings import Settings

__all__ = ["denied_permissions", "principal", "require_access", "require_login", "unseen_topics"]

# Kafka's numbers of the operations: each is the position of a bit in the answer (AclOperation.java).
_BITS: dict[Operation, int] = {"Read": 3, "Write": 4, "Create": 5, "Describe": 8, "DescribeConfigs": 10}
_TOPIC_DENIED = kafka_errors.TopicAuthorizationFailedError.errno
_GROUP_DENIED = kafka_errors.GroupAuthorizationFailedError.errno
_GOODBYE_SECONDS = 1.0
_LOGIN_REFUSED = (
    kafka_errors.SaslAuthenticationFailed,
    kafka_errors.UnsupportedSaslMechanismError,
    kafka_errors.IllegalSaslStateError,
)
# TLS alerts with which a broker refuses a client certificate, or the lack of one.
_CERTIFICATE_ALERTS = (
    "CERTIFICATE_REQUIRED",
    "BAD_CERTIFICATE",
    "CERTIFICATE_UNKNOWN",
    "UNKNOWN_CA",
    "CERTIFICATE_EXPIRED",
)


def principal(settings: Settings) -> str:
    """The principal of this process in the broker's ACLs; a placeholder if only the broker knows the name."""
    if not settings.kafka_security_protocol.startswith("SASL"):
        # A certificate's name depends on the broker's ssl.principal.mapping.rules.
        return "User:ANONYMOUS" if settings.kafka_client_cert_file is None else "User:CERTIFICATE_SUBJECT"
    if settings.kafka_sasl_mechanism == "OAUTHBEARER":
        return "User:TOKEN_SUBJECT"
    return f"User:{settings.kafka_username}"


async def require_login(settings: Settings) -> None:
    """Return if the broker accepts the login.

    Raises:
        AccessDeniedError: the broker refuses the login, or TLS fails.
        BrokerUnavailableError: no broker answers.
    """
    async with _connected(settings):
        pass


async def require_access(settings: Settings, role: PermissionRole) -> None:
    """Return if the broker accepts the login and reports no missing permission of the role.

    Raises:
        AccessDeniedError: with every missing permission, and the commands that grant them.
        BrokerUnavailableError: no broker answers.
    """
    if denied := await denied_permissions(settings, role):
        who = principal(settings)
        needs = "\n".join(f"  - {one.resource} {one.name}: {', '.join(one.operations)} ({one.why})" for one in denied)
        commands = "\n".join(
            f"  {acl_command(who, one, bootstrap_servers=settings.kafka_bootstrap_servers)}" for one in denied
        )
        raise AccessDeniedError(
            f"The broker does not give {who} these permissions of the {role}:\n{needs}\n"
            f"Give them as an administrator:\n{commands}\n"
            f"All commands of the role: `nexus topics acls --role {role} --principal {who}`. "
            "docs/reference/kafka-permissions.md explains each permission."
        )


async def denied_permissions(settings: Settings, role: PermissionRole) -> list[Permission]:
    """The missing permissions of a role. If the broker does not report a permission, it counts as granted.

    For a topic without the Describe permission all permissions count as missing: Kafka then does not even tell whether
    the topic exists.

    Raises:
        AccessDeniedError: the broker refuses the login.
        BrokerUnavailableError: no broker answers.
    """
    needed = permissions(settings, role)
    denied: list[Permission] = []
    async with _connected(settings) as connection:
        topics = await _topic_operations(connection, [one.name for one in needed if one.resource == "topic"])
        for one in needed:
            if one.resource == "topic":
                allowed = topics.get(one.name)
            else:
                allowed = await _group_operations(settings, connection, one.name)
            if missing := _missing(one.operations, allowed):
                denied.append(Permission(one.resource, one.name, missing, one.why))
    return denied


async def unseen_topics(settings: Settings, names: list[str]) -> set[str]:
    """The topics among ``names`` that this process may not describe, whether they exist or not.

    Raises:
        AccessDeniedError: the broker refuses the login.
        BrokerUnavailableError: no broker answers.
    """
    async with _connected(settings) as connection:
        return {name for name, allowed in (await _topic_operations(connection, names)).items() if allowed == 0}


def _missing(needed: tuple[Operation, ...], allowed: int | None) -> tuple[Operation, ...]:
    if allowed is None:
        return ()
    return tuple(operation for operation in needed if not allowed & 1 << _BITS[operation])


def _trusted(allowed: int) -> int | None:
    # The broker answers only for what may be described. Without the Describe bit it did not fill in the field.
    return allowed if allowed > 0 and allowed & 1 << _BITS["Describe"] else None


async def _topic_operations(connection: AIOKafkaConnection, names: list[str]) -> dict[str, int | None]:
    """Per topic the bits of the allowed operations: 0 if it may not be described, None if the broker reports none."""
    request = TopicAccessRequest(names)
    if not is_supported(request, connection._versions):
        return {}
    answer: dict[str, int | None] = {}
    for error_code, name, _, _, allowed in (await connection.send(request)).topics:
        if error_code == _TOPIC_DENIED:
            answer[name] = 0
        elif error_code == 0:
            answer[name] = _trusted(allowed)
    return answer


async def _group_operations(settings: Settings, connection: AIOKafkaConnection, group: str) -> int | None:
    """The same for a group; only the group's coordinator knows them."""
    found = await connection.send(FindCoordinatorRequest(group, 0))
    if found.error_code == _GROUP_DENIED:
        return 0
    request = GroupAccessRequest(group)
    if found.error_code or not is_supported(request, connection._versions):
        return None
    async with contextlib.AsyncExitStack() as stack:
        if (found.host, found.port) != (connection.host, connection.port):
            connection = await stack.enter_async_context(_connected(settings, (found.host, found.port)))
        error_code, *_, allowed = (await connection.send(request)).groups[0]
    if error_code == _GROUP_DENIED:
        return 0
    return None if error_code else _trusted(allowed)


@asynccontextmanager
async def _connected(settings: Settings, address: tuple[str, int] | None = None) -> AsyncIterator[AIOKafkaConnection]:
    """A connection after login: to ``address`` if given, otherwise to the first configured broker that answers."""
    options = client_options(settings)
    servers = options.pop("bootstrap_servers")
    options.pop("metadata_max_age_ms")
    options["max_idle_ms"] = options.pop("connections_max_idle_ms")
    places = [address] if address else [(host, port) for host, port, _ in collect_hosts(servers, randomize=False)]
    last: BaseException | None = None
    for host, port in places:
        try:
            connection = await _log_in(host, port, options)
        except (OSError, TimeoutError, kafka_errors.KafkaError) as error:
            _raise_if_refused(settings, f"{host}:{port}", error)
            last = error
            continue
        try:
            yield connection
        except (OSError, TimeoutError, kafka_errors.KafkaError) as error:
            _raise_if_refused(settings, f"{host}:{port}", error)
            raise BrokerUnavailableError(
                f"{host}:{port} does not answer: {type(error).__name__}{_hint(settings, error)}"
            ) from error
        finally:
            await _close(connection)
        return
    raise BrokerUnavailableError(
        f"No broker answers at {settings.kafka_bootstrap_servers} (NEXUS_KAFKA_BOOTSTRAP_SERVERS): "
        f"{type(last).__name__}{_hint(settings, last)}"
    ) from last


async def _log_in(host: str, port: int, options: dict[str, Any]) -> AIOKafkaConnection:
    connection = AIOKafkaConnection(host, port, client_id="nexus-access", **options)
    try:
        await connection.connect()
        answer = await connection.send(MetadataRequest([]))
    except BaseException:
        await _close(connection)
        raise
    if not answer.brokers:
        # A broker refuses a token with a JSON document (RFC 7628, 3.2.2), which aiokafka mistakes for success. Apache
        # Kafka then sends an empty answer to the next request, and closes the connection.
        await _close(connection)
        raise kafka_errors.SaslAuthenticationFailed
    return connection


async def _close(connection: AIOKafkaConnection) -> None:
    closed = connection.close()
    if closed is not None:
        # TLS sends a closing message before the socket closes.
        await asyncio.wait([closed], timeout=_GOODBYE_SECONDS)


def _hint(settings: Settings, error: BaseException | None) -> str:
    if not isinstance(error, kafka_errors.KafkaConnectionError):
        return ""
    return (
        f" (it closed the connection at once; does NEXUS_KAFKA_SECURITY_PROTOCOL={settings.kafka_security_protocol} "
        "fit that port?)"
    )


def _raise_if_refused(settings: Settings, place: str, error: BaseException) -> None:
    """Raise an error that explains the cause, unless the problem may be temporary."""
    for cause in _chain(error):
        if isinstance(cause, ConfigurationError):
            raise AccessDeniedError(str(cause.args[0])) from error
        if isinstance(cause, ssl.SSLCertVerificationError):
            trusted = settings.kafka_ca_file or "the system's authorities"
            raise AccessDeniedError(
                f"NEXUS_KAFKA_CA_FILE: {place} shows a certificate that is not trusted: {cause.verify_message}. "
                f"Trusted now: {trusted}. Set the PEM file of the authority that signed it; for another host name, set "
                "NEXUS_KAFKA_BOOTSTRAP_SERVERS to the names in the certificate."
            ) from error
        if isinstance(cause, ssl.SSLError) and any(alert in (cause.reason or "") for alert in _CERTIFICATE_ALERTS):
            raise AccessDeniedError(
                f"NEXUS_KAFKA_CLIENT_CERT_FILE, NEXUS_KAFKA_CLIENT_KEY_FILE: {place} wants a client certificate and "
                f"{'does not accept this one' if settings.kafka_client_cert_file else 'none is set'}."
            ) from error
        if isinstance(cause, ssl.SSLError) and (cause.reason or "") in {"WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE"}:
            raise AccessDeniedError(
                f"NEXUS_KAFKA_SECURITY_PROTOCOL: {place} does not speak TLS, which "
                f"{settings.kafka_security_protocol} needs. Choose another port or protocol."
            ) from error
        if isinstance(cause, _LOGIN_REFUSED):
            raise AccessDeniedError(_refusal(settings, place, cause)) from error


def _refusal(settings: Settings, place: str, error: BaseException) -> str:
    mechanism = settings.kafka_sasl_mechanism
    if isinstance(error, kafka_errors.UnsupportedSaslMechanismError):
        return f"NEXUS_KAFKA_SASL_MECHANISM: {place} does not offer {mechanism}."
    if isinstance(error, kafka_errors.IllegalSaslStateError):
        return f"NEXUS_KAFKA_SECURITY_PROTOCOL: {place} accepts no SASL login. Choose another port, or set SSL."
    if mechanism == "OAUTHBEARER":
        where = settings.kafka_oauth_token_file or f"signed for MSK in {settings.kafka_aws_region}"
        return (
            f"NEXUS_KAFKA_OAUTH_TOKEN_FILE, NEXUS_KAFKA_AWS_REGION: {place} refuses the token ({where}): it is "
            "expired, for another audience, or the broker does not know its identity."
        )
    return (
        f"NEXUS_KAFKA_USERNAME, NEXUS_KAFKA_PASSWORD: {place} refuses the login of {principal(settings)} by "
        f"{mechanism}. Either of them is wrong, or the user exists for another NEXUS_KAFKA_SASL_MECHANISM."
    )


def _chain(error: BaseException) -> Iterator[BaseException]:
    one: BaseException | None = error
    seen: set[int] = set()
    while one is not None and id(one) not in seen:
        seen.add(id(one))
        yield one
        one = one.__cause__ or one.__context__
