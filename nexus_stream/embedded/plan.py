"""The environment and the ports that ``nexus dev`` gives its processes.

From: the user's environment and ``.env``. The embedded broker and database always replace the user's cluster and
database. For everything else, the user's variables win over the defaults here.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from dotenv import dotenv_values

from nexus_stream.errors import ConfigurationError
from nexus_stream.host.free_ports import free_port, port_is_free, port_owner

__all__ = [
    "LOCAL_ORIGINS",
    "DevPorts",
    "choose_ports",
    "port_environment",
    "process_environment",
    "refuse_in_production",
    "requested_ports",
    "unused_variables",
    "user_environment",
]

GATEWAY_PORT = 8080
CONSOLE_PORT = 8090
BROKER_PORT = 29092
DATABASE_PORT = 25432

# A site in development is a page on any port of this machine.
LOCAL_ORIGINS = ("http://localhost:*", "http://127.0.0.1:*")
# Short, because the user at the terminal wants to see the row soon.
_SETTLE_SECONDS = "2"
_DEFAULTS = {
    "NEXUS_SETTLE_SECONDS": _SETTLE_SECONDS,
    "NEXUS_TOPIC_PARTITIONS": "2",
    # All processes together must stop within 30 s, one after the other.
    "NEXUS_STOP_TIMEOUT_SECONDS": "8",
    "NEXUS_GATEWAY_STOP_SECONDS": "4",
}
# The embedded broker needs half the session timeout for every group join.
_BROKER_TIMING = {
    "NEXUS_KAFKA_SESSION_TIMEOUT_SECONDS": "6",
    "NEXUS_KAFKA_HEARTBEAT_INTERVAL_SECONDS": "1",
    "NEXUS_KAFKA_REBALANCE_TIMEOUT_SECONDS": "8",
    # During a fetch the broker polls at intervals that grow with the wait: see worker/consumer.py.
    "NEXUS_KAFKA_FETCH_MAX_WAIT_SECONDS": "0.05",
}
# Variables that choose the cluster or the database. They always get these values. Empty means unset.
_REPLACED = {
    "NEXUS_KAFKA_PROVIDER": "",
    "NEXUS_KAFKA_BOOTSTRAP_SERVERS": "",
    "NEXUS_KAFKA_SECURITY_PROTOCOL": "PLAINTEXT",
    "NEXUS_KAFKA_SASL_MECHANISM": "",
    "NEXUS_KAFKA_USERNAME": "",
    "NEXUS_KAFKA_PASSWORD": "",
    "NEXUS_KAFKA_OAUTH_TOKEN_FILE": "",
    "NEXUS_KAFKA_AWS_REGION": "",
    "NEXUS_KAFKA_CA_FILE": "",
    "NEXUS_KAFKA_CLIENT_CERT_FILE": "",
    "NEXUS_KAFKA_CLIENT_KEY_FILE": "",
    "NEXUS_TOPIC_REPLICATION_FACTOR": "1",
    "NEXUS_DATABASE_URL": "",
    "SUPABASE_DB_URL": "",
}
# Chosen here, because local tables belong to one broker's changelog, and we must know each worker's web address.
_CHOSEN = {"NEXUS_DATA_DIR": "", "NEXUS_WEB_PORT": "", "NEXUS_WEB_HOST": ""}
# The user's port variables. Each process gets only its own port.
_PORT_VARIABLES = ("PORT", "NEXUS_GATEWAY_PORT", "NEXUS_CONSOLE_PORT", "NEXUS_METRICS_PORT")
_ORIGINS = "NEXUS_GATEWAY_ALLOWED_ORIGINS"
_LAST_PORT = 65_535


@dataclass(frozen=True, slots=True)
class DevPorts:
    """Every port of one run, all on the loopback address."""

    gateway: int
    console: int
    broker: int
    database: int
    enricher_web: int
    sink_web: int
    # Only if NEXUS_METRICS_PORT is set.
    gateway_metrics: int | None = None
    console_metrics: int | None = None


def user_environment() -> dict[str, str]:
    """Merge the environment over the ``.env`` file of the working directory, as every process does."""
    from_file = {name: value for name, value in dotenv_values(Path(".env")).items() if value is not None}
    return {**from_file, **os.environ}


def refuse_in_production(environ: Mapping[str, str]) -> None:
    """Refuse to run in production, because the embedded parts are not safe.

    Raises:
        ConfigurationError: ``NEXUS_ENV`` is ``production``.
    """
    if environ.get("NEXUS_ENV", "").strip().lower() == "production":
        raise ConfigurationError(
            "NEXUS_ENV=production: the broker of `nexus dev` keeps everything in memory, and its database trusts every "
            "local connection. Start the Procfile's processes with a Kafka cluster and your own database instead, or "
            "unset NEXUS_ENV."
        )


def unused_variables(environ: Mapping[str, str]) -> list[str]:
    """The user's variables that ``nexus dev`` replaces."""
    ours = {**_REPLACED, **_BROKER_TIMING, **_CHOSEN}
    return sorted(name for name, value in ours.items() if environ.get(name, "") not in {"", value})


def requested_ports(environ: Mapping[str, str]) -> dict[str, str]:
    """The user's port variables, unchanged: the settings must accept them."""
    return {name: environ[name] for name in _PORT_VARIABLES if environ.get(name)}


def choose_ports(environ: Mapping[str, str], port_base: int | None, say: Callable[[str], None]) -> DevPorts:
    """Choose every port.

    A requested port (``port_base``, or a port variable) must be free. A default port that is taken is replaced by a
    free one, and ``say`` reports that. Gateway and console share ``NEXUS_METRICS_PORT``, so the console's metrics take
    the next port.

    Args:
        environ: The user's environment; its port variables are valid.
        port_base: The first of four consecutive ports, for gateway, console, broker and database.
        say: Prints a message about an unexpected choice.

    Raises:
        ConfigurationError: a requested port is taken; the message names the owner.
    """
    chosen: list[int] = []

    def choose(role: str, requested: int | None, usual: int) -> int:
        port = usual if requested is None else requested
        if port == 0 or port in chosen or not port_is_free(port):
            owner = port_owner(port) if port else None
            if requested and owner is not None:
                raise ConfigurationError(f"Port {port}, requested for the {role}, is taken by {owner}. Choose another.")
            taken, port = port, free_port(chosen)
            if taken:
                say(f"port {taken} is {f'taken by {owner}' if owner else 'not free yet'}: the {role} takes {port}")
        chosen.append(port)
        return port

    def requested_port(offset: int, *variables: str) -> int | None:
        if port_base is not None:
            return port_base + offset
        for variable in variables:
            if environ.get(variable):
                return int(environ[variable])
        return None

    gateway = choose("gateway", requested_port(0, "NEXUS_GATEWAY_PORT", "PORT"), GATEWAY_PORT)
    console = choose("console", requested_port(1, "NEXUS_CONSOLE_PORT"), CONSOLE_PORT)
    broker = choose("broker", requested_port(2), BROKER_PORT)
    database = choose("database", requested_port(3), DATABASE_PORT)
    gateway_metrics = console_metrics = None
    if environ.get("NEXUS_METRICS_PORT"):
        requested = int(environ["NEXUS_METRICS_PORT"])
        gateway_metrics = choose("gateway's metrics", requested, 0)
        console_metrics = choose("console's metrics", None, requested + 1 if 0 < requested < _LAST_PORT else 0)
        say(f"NEXUS_METRICS_PORT: the gateway's metrics take {gateway_metrics}, the console's {console_metrics}")
    enricher_web = free_port(chosen)
    sink_web = free_port([*chosen, enricher_web])
    return DevPorts(gateway, console, broker, database, enricher_web, sink_web, gateway_metrics, console_metrics)


def process_environment(
    environ: Mapping[str, str], *, bootstrap_servers: str, database_url: str, tables: Path, programs: Path
) -> dict[str, str]:
    """Build the environment that all processes share.

    Args:
        environ: The user's environment.
        bootstrap_servers: The embedded broker's address.
        database_url: The embedded database's URL.
        tables: Directory of the workers' local table data.
        programs: Directory of the programs (``nexus``, ``faust``); it is first in PATH.
    """
    return {
        **environ,
        **{name: value for name, value in _DEFAULTS.items() if not environ.get(name)},
        # Empty, not missing: a process would read a missing variable from the .env file again.
        **dict.fromkeys(_PORT_VARIABLES, ""),
        **_CHOSEN,
        **_REPLACED,
        **_BROKER_TIMING,
        "NEXUS_KAFKA_BOOTSTRAP_SERVERS": bootstrap_servers,
        "SUPABASE_DB_URL": database_url,
        "NEXUS_DATA_DIR": str(tables),
        # Beside the user's own origins: a `.env` often names only the real site.
        _ORIGINS: ",".join(filter(None, (environ.get(_ORIGINS, ""), *LOCAL_ORIGINS))),
        "PATH": f"{programs}{os.pathsep}{environ.get('PATH', os.defpath)}",
        "PYTHONUNBUFFERED": "1",
    }


def port_environment(ports: DevPorts) -> dict[str, dict[str, str]]:
    """The variables for one process type each."""
    return {
        "gateway": {"PORT": str(ports.gateway), "NEXUS_METRICS_PORT": _text(ports.gateway_metrics)},
        "console": {
            "PORT": str(ports.console),
            "NEXUS_CONSOLE_PORT": str(ports.console),
            "NEXUS_METRICS_PORT": _text(ports.console_metrics),
        },
        "enricher": {"NEXUS_WEB_PORT": str(ports.enricher_web)},
        "sink": {"NEXUS_WEB_PORT": str(ports.sink_web)},
    }


def _text(port: int | None) -> str:
    return "" if port is None else str(port)
