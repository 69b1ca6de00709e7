"""Stands in for Kafka's ``kafka-acls.sh``, which is in none of the jars that a broker needs: same options, same file.

From: a line that `nexus topics acls` prints, and the ``admin.properties`` it names. To: the cluster, as that file's
administrator.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from confluent_kafka.admin import (
    AclBinding,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
)

_TIMEOUT_SECONDS = 30.0
_OPERATIONS = {"Read": AclOperation.READ, "Write": AclOperation.WRITE, "Describe": AclOperation.DESCRIBE}


def _login(command_config: Path) -> dict[str, str]:
    """The client's options; a property that is missing is an error, as is one nobody knows here."""
    lines = [line for line in command_config.read_text(encoding="utf-8").splitlines() if line]
    properties = dict(line.split("=", 1) for line in lines)
    jaas = re.fullmatch(
        r'org\.apache\.kafka\.common\.security\.scram\.ScramLoginModule required username="(.*)" password="(.*)";',
        properties.pop("sasl.jaas.config"),
    )
    if jaas is None or properties.pop("ssl.truststore.type") != "PEM":
        raise SystemExit(f"{command_config}: not as this program reads it")
    renamed = {"ssl.truststore.location": "ssl.ca.location", "sasl.mechanism": "sasl.mechanisms"}
    return {
        "sasl.username": jaas[1],
        "sasl.password": jaas[2],
        **{renamed.get(name, name): value for name, value in properties.items()},
    }


def main() -> None:
    """Add what the command line says."""
    parser = argparse.ArgumentParser(prog="kafka-acls.sh", allow_abbrev=False)
    parser.add_argument("--bootstrap-server", required=True)
    parser.add_argument("--command-config", required=True, type=Path)
    parser.add_argument("--add", action="store_true", required=True)
    parser.add_argument("--allow-principal", required=True)
    parser.add_argument("--operation", action="append", required=True, choices=_OPERATIONS)
    resource = parser.add_mutually_exclusive_group(required=True)
    resource.add_argument("--topic")
    resource.add_argument("--group")
    options = parser.parse_args()
    admin = AdminClient({"bootstrap.servers": options.bootstrap_server, **_login(options.command_config)})
    kind, name = (ResourceType.TOPIC, options.topic) if options.topic else (ResourceType.GROUP, options.group)
    bindings = [
        AclBinding(
            *(kind, name, ResourcePatternType.LITERAL, options.allow_principal, "*"),
            *(_OPERATIONS[operation], AclPermissionType.ALLOW),
        )
        for operation in options.operation
    ]
    for future in admin.create_acls(bindings).values():
        future.result(_TIMEOUT_SECONDS)


if __name__ == "__main__":
    main()
