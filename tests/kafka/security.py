"""TLS, SASL and ACLs of a test cluster: certificates, broker properties, users and permissions.

From: `KafkaCluster.start(security=...)`. To: ``server.properties``, and an administrator's client with a certificate of
its own. Two listeners for clients: ``SASL_SSL`` (PLAIN, SCRAM-SHA-256, SCRAM-SHA-512 and OAUTHBEARER) and ``MTLS``
(TLS with a client certificate, whose common name is the principal). Nothing is allowed that no ACL allows, except to
the nodes and the administrator.
"""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from confluent_kafka.admin import (
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)

from nexus_stream.host.free_ports import LOOPBACK
from nexus_stream.kafka.permissions import Permission
from tests.support.certificates import CertificateAuthority

__all__ = ["ClusterAdmin", "ScramName", "SecurityOptions", "TlsFiles", "unsecured_token"]

ScramName = Literal["SCRAM-SHA-256", "SCRAM-SHA-512"]

_NODE = "kafka-node"
_ADMIN = "kafka-admin"
_BOTH = "serverAuth,clientAuth"
_TIMEOUT_SECONDS = 30.0
_RESOURCES = {
    "topic": ResourceType.TOPIC,
    "group": ResourceType.GROUP,
}
_OPERATIONS = {
    "Read": AclOperation.READ,
    "Write": AclOperation.WRITE,
    "Create": AclOperation.CREATE,
    "Describe": AclOperation.DESCRIBE,
    "DescribeConfigs": AclOperation.DESCRIBE_CONFIGS,
}


@dataclass(frozen=True)
class SecurityOptions:
    """What a secured cluster is started with.

    Attributes:
        plain_users: Name and password of each PLAIN user. Only these: Kafka keeps them in its own configuration, while
            SCRAM users are added to a running cluster (`ClusterAdmin.add_user`).
    """

    plain_users: Mapping[str, str] = field(default_factory=dict)


class TlsFiles:
    """The cluster's own certificate authority and what it signs, in a folder; found again by the next start on it."""

    def __init__(self, folder: Path) -> None:
        self._authority = CertificateAuthority.make(folder, "kafka-ca", exist_ok=True)
        self._node_pem = folder / "node.pem"
        certificate, key = self._authority.issue(
            _NODE, addresses=[LOOPBACK], dns_names=["localhost"], purposes=_BOTH, exist_ok=True
        )
        # One file with both, as Kafka's PEM key store wants it.
        self._node_pem.write_text(key.read_text() + certificate.read_text() + self.ca_file.read_text())
        self._node_pem.chmod(0o600)

    @property
    def ca_file(self) -> Path:
        """The authority's certificate: ``NEXUS_KAFKA_CA_FILE``."""
        return self._authority.certificate

    def client_certificate(self, name: str) -> tuple[Path, Path]:
        """A certificate and its key for the principal ``User:<name>`` on the ``MTLS`` listener."""
        return self._authority.issue(name, purposes="clientAuth", exist_ok=True)

    def admin_options(self) -> dict[str, str]:
        """The administrator's part of a confluent-kafka configuration; the address is the ``MTLS`` listener's."""
        certificate, key = self.client_certificate(_ADMIN)
        return {
            "security.protocol": "ssl",
            "ssl.ca.location": str(self.ca_file),
            "ssl.certificate.location": str(certificate),
            "ssl.key.location": str(key),
        }

    def properties(self, options: SecurityOptions, ports: Mapping[str, int]) -> dict[str, str]:
        """A node's ``server.properties`` that differ from an open cluster's.

        Args:
            options: The PLAIN users.
            ports: The node's ports by listener: ``SASL_SSL``, ``MTLS``, ``CONTROLLER``.
        """
        modules = "org.apache.kafka.common.security"
        plain_users = " ".join(f'user_{name}="{password}"' for name, password in options.plain_users.items())
        sasl = "listener.name.sasl_ssl"
        clients = {name: port for name, port in ports.items() if name != "CONTROLLER"}
        return {
            "listeners": ",".join(f"{name}://{LOOPBACK}:{port}" for name, port in ports.items()),
            "advertised.listeners": ",".join(f"{name}://{LOOPBACK}:{port}" for name, port in clients.items()),
            "listener.security.protocol.map": "SASL_SSL:SASL_SSL,MTLS:SSL,CONTROLLER:SSL",
            "inter.broker.listener.name": "MTLS",
            "ssl.keystore.type": "PEM",
            "ssl.keystore.location": str(self._node_pem),
            "ssl.truststore.type": "PEM",
            "ssl.truststore.location": str(self.ca_file),
            "listener.name.mtls.ssl.client.auth": "required",
            "listener.name.controller.ssl.client.auth": "required",
            "ssl.principal.mapping.rules": "RULE:^CN=([^,]+).*$/$1/,DEFAULT",
            "sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512,OAUTHBEARER",
            f"{sasl}.plain.sasl.jaas.config": f"{modules}.plain.PlainLoginModule required {plain_users};",
            f"{sasl}.scram-sha-256.sasl.jaas.config": f"{modules}.scram.ScramLoginModule required;",
            f"{sasl}.scram-sha-512.sasl.jaas.config": f"{modules}.scram.ScramLoginModule required;",
            # Kafka's own validator of tokens that nobody signed: for tests only, as its documentation says.
            f"{sasl}.oauthbearer.sasl.jaas.config": (
                f'{modules}.oauthbearer.OAuthBearerLoginModule required unsecuredLoginStringClaim_sub="{_NODE}";'
            ),
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "super.users": f"User:{_NODE};User:{_ADMIN}",
        }


class ClusterAdmin:
    """Changes users and permissions of a running secured cluster, as its super user."""

    def __init__(self, client: AdminClient) -> None:
        self.client = client

    def add_user(self, name: str, password: str, mechanism: ScramName = "SCRAM-SHA-512") -> None:
        """Add a SCRAM user, or give one a new password; return when the cluster knows it."""
        number = ScramMechanism.SCRAM_SHA_512 if mechanism == "SCRAM-SHA-512" else ScramMechanism.SCRAM_SHA_256
        credential = UserScramCredentialUpsertion(name, ScramCredentialInfo(number, 4096), password.encode())
        for future in self.client.alter_user_scram_credentials([credential]).values():
            future.result(_TIMEOUT_SECONDS)

    def add_acls(self, principal: str, permissions: Iterable[Permission]) -> None:
        """Allow a principal (``User:name``) those permissions from any host."""
        bindings = [binding for permission in permissions for binding in _bindings(principal, permission)]
        for future in self.client.create_acls(bindings).values():
            future.result(_TIMEOUT_SECONDS)
        self._wait_until(bindings, there=True)

    def remove_acls(self, principal: str, permissions: Iterable[Permission]) -> None:
        """Take those permissions from a principal; others stay."""
        bindings = [binding for permission in permissions for binding in _bindings(principal, permission)]
        filters = [
            AclBindingFilter(
                *(binding.restype, binding.name, binding.resource_pattern_type, binding.principal, binding.host),
                *(binding.operation, binding.permission_type),
            )
            for binding in bindings
        ]
        for future in self.client.delete_acls(filters).values():
            future.result(_TIMEOUT_SECONDS)
        self._wait_until(bindings, there=False)

    def acls(self, principal: str) -> list[AclBinding]:
        """What a principal may do now."""
        every = AclBindingFilter(
            *(ResourceType.ANY, None, ResourcePatternType.ANY, principal, None),
            *(AclOperation.ANY, AclPermissionType.ANY),
        )
        return list(self.client.describe_acls(every).result(_TIMEOUT_SECONDS))

    def _wait_until(self, bindings: list[AclBinding], *, there: bool) -> None:
        # The controller has them when it answers; brokers follow its log.
        deadline = time.monotonic() + _TIMEOUT_SECONDS
        for principal in {binding.principal for binding in bindings}:
            while True:
                known = {str(binding) for binding in self.acls(principal)}
                if all((str(binding) in known) is there for binding in bindings):
                    break
                if time.monotonic() > deadline:
                    raise RuntimeError(f"the ACLs of {principal} did not change in {_TIMEOUT_SECONDS:.0f} s")
                time.sleep(0.05)


def unsecured_token(principal: str, *, lifetime_seconds: float = 3600) -> str:
    """A token for OAUTHBEARER that nobody signed (``alg: none``), for the principal ``User:<principal>``."""
    now = int(time.time())
    claims = {"sub": principal, "iat": now, "exp": int(now + lifetime_seconds)}
    return ".".join([*(_base64url(json.dumps(part).encode()) for part in ({"alg": "none"}, claims)), ""])


def _base64url(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).decode().rstrip("=")


def _bindings(principal: str, permission: Permission) -> list[AclBinding]:
    return [
        AclBinding(
            *(_RESOURCES[permission.resource], permission.name, ResourcePatternType.LITERAL, principal, "*"),
            *(_OPERATIONS[operation], AclPermissionType.ALLOW),
        )
        for operation in permission.operations
    ]
