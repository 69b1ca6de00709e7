"""Parse and check the DSN ``SUPABASE_DB_URL`` before the first connection.

This module prints only hosts, ports and the database's name, and only of a well-formed DSN. With an unescaped ``@`` or
``#`` in the password, a part of the password would look like a host.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Literal, TypeAlias
from urllib.parse import parse_qs, unquote, urlsplit

from nexus_stream.errors import ConfigurationError
from nexus_stream.host.addresses import is_loopback
from nexus_stream.supabase.dsn import clean_dsn, malformed

__all__ = ["Mode", "PoolerMode", "Target", "parse_target", "require_secure"]

PoolerMode: TypeAlias = Literal["auto", "none", "session", "transaction"]

_HOST = re.compile(r"^[A-Za-z0-9._-]+$")
_TRANSACTION_POOLER_PORT = 6543
_SUPABASE_POOLER = ".pooler.supabase.com"


class Mode(StrEnum):
    """The kind of connection to the server."""

    DIRECT = "direct"
    SESSION_POOLER = "session pooler"
    TRANSACTION_POOLER = "transaction pooler"
    # Detected by connecting. The kind of the pooler is unknown.
    POOLER = "pooler"


@dataclass(frozen=True, slots=True)
class Target:
    """A parsed DSN. Its repr contains no secret.

    Attributes:
        hosts, ports, database: Passed to the driver with the DSN. So the driver connects to the checked database, even
            if the environment (PGPORT, PGDATABASE) names another.
        left_out: Parameters of other clients that are not used.
        connect_timeout_seconds: What the DSN says; None: the setting counts.
        mode: None if neither the address nor a setting decides. A connection can then find out.
    """

    dsn: str = field(repr=False)
    hosts: tuple[str, ...]
    ports: tuple[int, ...]
    database: str
    sslmode: str | None
    sslrootcert: str | None
    mode: Mode | None
    left_out: tuple[str, ...] = ()
    connect_timeout_seconds: float | None = None

    @property
    def is_loopback(self) -> bool:
        """Whether every host is this machine."""
        return all(host.startswith("/") or is_loopback(host) for host in self.hosts)

    @property
    def is_secure(self) -> bool:
        """Whether a third party on the network can neither read nor answer the connection."""
        return self.is_loopback or self.sslmode == "verify-full"

    def __str__(self) -> str:
        places = ",".join(f"{host}:{port}" for host, port in zip(self.hosts, self.ports, strict=True))
        return f"{places}/{self.database}"


def parse_target(dsn: str, pooler_mode: PoolerMode = "auto") -> Target:
    """Parse a DSN.

    Args:
        dsn: A DSN in the form that PostgreSQL's own clients accept, or Supabase's and Vercel's pages show.
        pooler_mode: The pooler before the server; ``auto`` decides by Supabase's ports and host names.

    Raises:
        ConfigurationError: the DSN is malformed. The message explains the problem and quotes no part of the DSN.
    """
    clean = clean_dsn(dsn)
    try:
        parts = urlsplit(clean.text)
        query = parse_qs(parts.query, strict_parsing=True) if parts.query else {}
    except ValueError:
        raise malformed("the DSN cannot be parsed") from None
    if parts.scheme not in {"postgresql", "postgres"}:
        raise malformed("the DSN must start with postgresql://")
    if parts.fragment or "@" in parts.path or "/" in parts.path[1:] or parts.netloc.count("@") > 1:
        raise malformed("a special character is not percent-encoded")
    user, _, hostspec = parts.netloc.rpartition("@")
    settings = {name: values[-1] for name, values in query.items()}
    _refuse_named_twice(hostspec, parts.path, settings)
    hosts, ports = _hosts_and_ports(unquote(hostspec) or settings.get("host", ""), settings.get("port"))
    database = unquote(parts.path[1:]) or settings.get("dbname") or settings.get("database")
    return Target(
        dsn=clean.text,
        hosts=hosts,
        ports=ports,
        # The default database name in PostgreSQL is the user's name.
        database=database or unquote(user.partition(":")[0]) or settings.get("user") or "postgres",
        sslmode=settings.get("sslmode"),
        sslrootcert=settings.get("sslrootcert"),
        mode=_mode(pooler_mode, hosts, ports, is_pooled=clean.is_pooled),
        left_out=clean.left_out,
        connect_timeout_seconds=clean.connect_timeout_seconds,
    )


def _mode(pooler_mode: PoolerMode, hosts: tuple[str, ...], ports: tuple[int, ...], *, is_pooled: bool) -> Mode | None:
    named = {"none": Mode.DIRECT, "session": Mode.SESSION_POOLER, "transaction": Mode.TRANSACTION_POOLER}
    if pooler_mode != "auto":
        return named[pooler_mode]
    if is_pooled or _TRANSACTION_POOLER_PORT in ports:
        return Mode.TRANSACTION_POOLER
    if any(host.endswith(_SUPABASE_POOLER) for host in hosts):
        return Mode.SESSION_POOLER
    return None


def require_secure(target: Target, *, production: bool) -> None:
    """Refuse a connection that a third party on the network could read or answer.

    Raises:
        ConfigurationError: in production, the server is another machine and sslmode is not verify-full. Or the file
            with the CA's certificate does not exist; a retry would not help.
    """
    if target.sslrootcert is not None and not Path(target.sslrootcert).is_file():
        raise ConfigurationError(f"SUPABASE_DB_URL: there is no file {target.sslrootcert}. Check sslrootcert.")
    if not production:
        return
    if target.is_secure:
        return
    raise ConfigurationError(
        f"SUPABASE_DB_URL: sslmode is {target.sslmode or 'not set'}; NEXUS_ENV=production needs verify-full. Add "
        "?sslmode=verify-full&sslrootcert=/path/to/ca.crt (Supabase: Project settings > Database > SSL configuration "
        "> Download certificate)."
    )


def _refuse_named_twice(hostspec: str, path: str, settings: Mapping[str, str]) -> None:
    """Refuse a value named twice: clients disagree which one wins, so we could check one and connect to the other."""
    if hostspec and not settings.keys().isdisjoint({"host", "hostaddr", "port"}):
        raise malformed("put host and port either before or after the ?, not in both places")
    if (path != "") + ("dbname" in settings) + ("database" in settings) > 1:
        raise malformed("put the database's name either before or after the ?, not in both places")


def _hosts_and_ports(hostspec: str, portspec: str | None) -> tuple[tuple[str, ...], tuple[int, ...]]:
    hosts: list[str] = []
    ports: list[int] = []
    for item in hostspec.split(","):
        host, port = item, ""
        if item.startswith("["):
            host, _, rest = item[1:].partition("]")
            port = rest.removeprefix(":")
        elif not item.startswith("/"):
            host, _, port = item.partition(":")
        if not (_HOST.fullmatch(host) or host.startswith("/") or _address(host)):
            raise malformed("the DSN needs a host, and special characters in the password must be percent-encoded")
        if port and portspec:
            raise malformed("the port appears twice")
        port = port or portspec or "5432"
        if not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
            raise malformed("the port is not a number; special characters in the password must be percent-encoded")
        hosts.append(host)
        ports.append(int(port))
    return tuple(hosts), tuple(ports)


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None
