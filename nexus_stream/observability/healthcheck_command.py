"""``nexus healthcheck``: check the process of this container, or of this host, over HTTP.

For supervisors that can only run commands (``HEALTHCHECK``, ``podman``); Kubernetes sends HTTP requests itself. The
settings give the port. In a container the command line of process 1 gives the process type.
"""

from __future__ import annotations

import ipaddress
import itertools
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Literal, cast, get_args

import click

from nexus_stream.errors import ConfigurationError
from nexus_stream.settings import Settings, load_settings

__all__ = ["ServingRole", "address_of", "command", "process_type_of"]

ServingRole = Literal["gateway", "enricher", "sink", "console"]

_CONTAINER_MAIN = Path("/proc/1/cmdline")
_TIMEOUT_SECONDS = 5.0
_MAX_ANSWER_BYTES = 2000


@click.command(name="healthcheck")
@click.argument("process_type", required=False, type=click.Choice(get_args(ServingRole)))
@click.option("--live", is_flag=True, help="Check liveness instead of readiness.")
def command(process_type: str | None, live: bool) -> None:
    """Exit 0 if the process is ready, 1 if it is not ready or does not answer.

    In a container the process type is found from process 1. Elsewhere name it: gateway, enricher, sink or console.
    """
    found = cast("ServingRole | None", process_type) or process_type_of(_container_main())
    if found is None:
        raise ConfigurationError("nexus healthcheck: process 1 is not a nexus process. Name the process type.")
    # "tool" skips the checks of a role. Only the console reads a variable differently (PORT).
    settings = load_settings("console" if found == "console" else "tool")
    # Never use a proxy: the address belongs to this machine.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(
            f"{address_of(found, settings)}/{'live' if live else 'ready'}", timeout=_TIMEOUT_SECONDS
        ) as ok:
            click.echo(ok.read(_MAX_ANSWER_BYTES))
    except urllib.error.HTTPError as refused:
        with refused:
            click.echo(refused.read(_MAX_ANSWER_BYTES))
        sys.exit(1)
    except OSError as error:
        click.echo(f"{found}: no answer ({getattr(error, 'reason', error)})")
        sys.exit(1)


def process_type_of(argv: list[str]) -> ServingRole | None:
    """The process type that a command line starts, also behind an init or a shell; None if it starts none.

    Args:
        argv: For example ``["faust", "-A", "nexus_stream.enricher", "worker"]``.
    """
    words = [word for argument in argv for word in argument.split()]
    for before, word in itertools.pairwise(words):
        if before == "-A" and word.startswith("nexus_stream."):
            module = word.removeprefix("nexus_stream.")
            return cast(ServingRole, module) if module in {"enricher", "sink"} else None
        if Path(before).name == "nexus" and word in {"gateway", "console"}:
            return cast(ServingRole, word)
    return None


def address_of(process_type: ServingRole, settings: Settings) -> str:
    """The address where that process serves ``/live`` and ``/ready``.

    Raises:
        ConfigurationError: the port setting is 0 (any free port), so the port is not known.
    """
    host, port, variable = {
        "gateway": (settings.gateway_host, settings.port, "NEXUS_GATEWAY_PORT"),
        "console": (settings.console_host, settings.console_port, "NEXUS_CONSOLE_PORT"),
    }.get(process_type, (settings.web_host, settings.web_port, "NEXUS_WEB_PORT"))
    if port == 0:
        raise ConfigurationError(f"{variable}: 0 means any free port, so the port is not known. Set a port.")
    return f"http://{_reachable(host)}:{port}"


def _reachable(host: str) -> str:
    """A host to connect to: the address of all interfaces is only for listening."""
    try:
        address = ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return host
    if address.is_unspecified:
        return "127.0.0.1" if address.version == 4 else "[::1]"
    return f"[{address}]" if address.version == 6 else str(address)


def _container_main() -> list[str]:
    try:
        return [word.decode(errors="replace") for word in _CONTAINER_MAIN.read_bytes().split(b"\0") if word]
    except OSError:
        return []
