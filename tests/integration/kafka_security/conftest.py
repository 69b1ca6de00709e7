"""One secured Apache Kafka for these tests, and the product's processes on it, each as a user of its own.

Every permission comes from the commands that ``nexus topics acls`` prints; nobody has another one, except ``operator``,
who makes the topics, and looks at them for the tests.
"""

from __future__ import annotations

import asyncio
import itertools
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import pytest
from click.testing import CliRunner

from nexus_stream.embedded.postgres import EmbeddedPostgres
from nexus_stream.kafka.command import command as topics_command
from nexus_stream.kafka.permissions import PERMISSION_ROLES, Operation, Permission, PermissionRole, ResourceType
from tests.kafka.launcher import KafkaCluster, SecurityOptions, available
from tests.kafka.security import unsecured_token
from tests.stack import Stack, StackProcess
from tests.support.requirements import require

MECHANISMS = ("SCRAM-SHA-512", "SCRAM-SHA-256", "PLAIN", "OAUTHBEARER", "mTLS")
PROCESSES: tuple[PermissionRole, ...] = ("gateway", "enricher", "sink", "console")


def secret_of(user: str) -> str:
    """A password that no log may hold."""
    return f"pass-{user}-9f27c1"


@pytest.fixture(scope="package")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaCluster]:
    require("kafka", available())
    users = [*PERMISSION_ROLES, "operator"]
    with KafkaCluster.start(
        data_dir=tmp_path_factory.mktemp("secured-kafka"),
        security=SecurityOptions(plain_users={user: secret_of(user) for user in users}),
    ) as one:
        for user in users:
            one.admin.add_user(user, secret_of(user), "SCRAM-SHA-512")
            one.admin.add_user(user, secret_of(user), "SCRAM-SHA-256")
        yield one


@pytest.fixture(scope="package")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedPostgres]:
    folder = tmp_path_factory.mktemp("secured-postgres")
    # The server runs as a user of its own.
    folder.chmod(0o755)
    with EmbeddedPostgres.start(folder / "postgres") as one:
        yield one


class SecuredStack(Stack):
    """A stack whose processes log in as their own users.

    Attributes:
        cluster: The broker.
    """

    def __init__(self, folder: Path, cluster: KafkaCluster, dsn: str, prefix: str) -> None:
        self.cluster = cluster
        super().__init__(
            folder,
            cluster.bootstrap_servers,
            dsn,
            NEXUS_TOPIC_PREFIX=f"{prefix}.",
            NEXUS_ENRICHER_APP_ID=f"{prefix}-enricher",
            NEXUS_SINK_APP_ID=f"{prefix}-sink",
        )
        # What the tests themselves do, they do as this one.
        self.variables |= self.login("operator", "SCRAM-SHA-512")

    def login(self, user: str, mechanism: str) -> dict[str, str]:
        """The variables with which a process logs in."""
        common = {"NEXUS_KAFKA_CA_FILE": str(self.cluster.ca_file)}
        if mechanism == "mTLS":
            certificate, key = self.cluster.client_certificate(user)
            return {
                **common,
                "NEXUS_KAFKA_BOOTSTRAP_SERVERS": self.cluster.mtls_bootstrap_servers,
                "NEXUS_KAFKA_SECURITY_PROTOCOL": "SSL",
                "NEXUS_KAFKA_CLIENT_CERT_FILE": str(certificate),
                "NEXUS_KAFKA_CLIENT_KEY_FILE": str(key),
                "NEXUS_KAFKA_USERNAME": "",
                "NEXUS_KAFKA_PASSWORD": "",
            }
        common |= {"NEXUS_KAFKA_SECURITY_PROTOCOL": "SASL_SSL", "NEXUS_KAFKA_SASL_MECHANISM": mechanism}
        if mechanism == "OAUTHBEARER":
            token_file = self.folder / f"{user}.token"
            token_file.write_text(unsecured_token(user))
            return {
                **common,
                "NEXUS_KAFKA_OAUTH_TOKEN_FILE": str(token_file),
                "NEXUS_KAFKA_USERNAME": "",
                "NEXUS_KAFKA_PASSWORD": "",
            }
        return {**common, "NEXUS_KAFKA_USERNAME": user, "NEXUS_KAFKA_PASSWORD": secret_of(user)}

    def start_as(self, kind: PermissionRole, mechanism: str, **variables: str) -> StackProcess:
        """Start a process as the user that has its name."""
        return self.start(kind, **{**self.login(kind, mechanism), **variables})

    def printed_permissions(self, role: PermissionRole, user: str) -> list[Permission]:
        """What `nexus topics acls` prints, as permissions."""
        outcome = CliRunner().invoke(
            topics_command, ["acls", "--role", role, "--principal", f"User:{user}"], env={**self.variables}
        )
        assert outcome.exit_code == 0, outcome.output
        return [parsed_command(line, f"User:{user}") for line in outcome.output.splitlines()]

    async def allow_everybody_the_least(self) -> None:
        """Give each process's user its permissions; the operator may make the topics and look at them."""
        for role in PROCESSES:
            self.cluster.admin.add_acls(f"User:{role}", self.printed_permissions(role, role))
        self.cluster.admin.add_acls("User:tools", self.printed_permissions("tools", "tools"))
        topics = self.printed_permissions("topics", "operator")
        looks = [Permission("topic", one.name, ("Read", "Write"), "") for one in topics]
        self.cluster.admin.add_acls("User:operator", [*topics, *looks])

    @contextmanager
    def without(self, role: PermissionRole, *permissions: Permission) -> Iterator[None]:
        """Take permissions from a process's user for a while."""
        self.cluster.admin.remove_acls(f"User:{role}", permissions)
        try:
            yield
        finally:
            self.cluster.admin.add_acls(f"User:{role}", permissions)

    async def committed_as(self, user: str, group: str, topic: str) -> dict[int, int]:
        """A group's committed offsets, asked by a user who may."""
        own = self.variables
        self.variables = {**own, **self.login(user, "SCRAM-SHA-512")}
        try:
            return await self.committed(group, topic)
        finally:
            self.variables = own

    def output(self, name: str) -> str:
        """What a process printed; without a secret in it, whatever happened."""
        text = self.processes[name].log.read_text()
        for user in (*PERMISSION_ROLES, "operator"):
            assert secret_of(user) not in text
            token_file = self.folder / f"{user}.token"
            if token_file.exists() and token_file.read_text():
                assert token_file.read_text() not in text
        assert "PRIVATE KEY" not in text
        return text


def parsed_command(line: str, principal: str) -> Permission:
    """A ``kafka-acls.sh`` command as `nexus topics acls` prints it."""
    words = shlex.split(line)
    assert words[0] == "kafka-acls.sh"
    assert "--add" in words
    options = list(itertools.pairwise(words))
    assert ("--allow-principal", principal) in options
    operations = tuple(cast(Operation, value) for option, value in options if option == "--operation")
    [(resource, name)] = [(option[2:], value) for option, value in options if option in {"--topic", "--group"}]
    return Permission(cast(ResourceType, resource), name, operations, "")


@pytest.fixture(scope="package")
def stack(
    cluster: KafkaCluster, database: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[SecuredStack]:
    """Topics made by the operator; no process runs yet."""
    folder = tmp_path_factory.mktemp("secured-stack")
    one = SecuredStack(folder, cluster, database.dsn, "least")

    async def prepare() -> None:
        await one.allow_everybody_the_least()
        await one.prepare()

    asyncio.run(prepare())
    yield one
    one.stop_all()


@pytest.fixture(autouse=True)
def _stop_processes(stack: SecuredStack) -> Iterator[None]:
    yield
    stack.stop_all()
