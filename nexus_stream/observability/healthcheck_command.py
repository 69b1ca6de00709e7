"""``nexus healthcheck``: ask the process of this container, or of this host, how it is.

From: the settings, which say the port; process 1, whose command says which process type a container runs. To: exit
code 0 or 1, for a supervisor that can only run commands (``HEALTHCHECK``, ``podman``); Kubernetes asks by HTTP itself.
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

__all__ = ["ProcessType", "address_of", "command", "process_type_of"]

ProcessType = Literal["gateway", "enricher", "sink", "console"]

_CONTAINER_MAIN = Path("/proc/1/cmdline")
_TIMEOUT_SECONDS = 5.0
_MAX_ANSWER_BYTES = 2000


@click.command(name="healthcheck")
@click.argument("process_type", required=False, type=click.Choice(get_args(ProcessType)))
@click.option("--live", is_flag=True, help="Ask whether it lives, not whether it is ready.")
def command(process_type: str | None, live: bool) -> None:
    """Exit 0 when the process says that it is ready, 1 when it is not or does not answer.

    In a container the process type is that of process 1; elsewhere name it: gateway, enricher, sink or console.
    """
    found = cast("ProcessType | None", process_type) or process_type_of(_container_main())
    if found is None:
        raise ConfigurationError("nexus healthcheck: process 1 is none of ours. Name the process type.")
    # The sink's own checks are not repeated here; of the roles only the console reads a variable differently (PORT).
    settings = load_settings("console" if found == "console" else "tool")
    # No proxy, whatever the environment says: the address is this machine's own.
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


def process_type_of(argv: list[str]) -> ProcessType | None:
    """Which of the four a command line starts, also behind an init or a shell; None: none of them.

    Args:
        argv: ``["faust", "-A", "nexus_stream.enricher", "worker"]``, say.
    """
    words = [word for argument in argv for word in argument.split()]
    for before, word in itertools.pairwise(words):
        if before == "-A" and word.startswith("nexus_stream."):
            module = word.removeprefix("nexus_stream.")
            return cast(ProcessType, module) if module in {"enricher", "sink"} else None
        if Path(before).name == "nexus" and word in {"gateway", "console"}:
            return cast(ProcessType, word)
    return None


def address_of(process_type: ProcessType, settings: Settings) -> str:
    """Where that process serves ``/live`` and ``/ready``.

    Raises:
        ConfigurationError: at any free port, which nobody else knows.
    """
    host, port, variable = {
        "gateway": (settings.gateway_host, settings.port, "NEXUS_GATEWAY_PORT"),
        "console": (settings.console_host, settings.console_port, "NEXUS_CONSOLE_PORT"),
    }.get(process_type, (settings.web_host, settings.web_port, "NEXUS_WEB_PORT"))
    if port == 0:
        raise ConfigurationError(f"{variable}: any free port cannot be found again. Set one.")
    return f"http://{_reachable(host)}:{port}"


def _reachable(host: str) -> str:
    """A host to connect to: "all interfaces" is an address to listen at only."""
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
