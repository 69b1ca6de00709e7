"""Which database a DSN leads to, checked before anything connects.

From: ``SUPABASE_DB_URL``. To: pool.py and migrate.py. Nothing here ever prints more of the DSN than hosts, ports and
the database's name, and those only after the DSN has proved to be well-formed: an unescaped ``@`` or ``#`` in a
password would otherwise make a part of the password look like a host.
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

__all__ = ["Mode", "PoolerMode", "Target", "parse_target", "require_secure"]

PoolerMode: TypeAlias = Literal["auto", "none", "session", "transaction"]

_EXAMPLE = "postgresql://USER:PASSWORD@HOST:PORT/postgres"
_HOST = re.compile(r"^[A-Za-z0-9._-]+$")
_TRANSACTION_POOLER_PORT = 6543
_SUPABASE_POOLER = ".pooler.supabase.com"


class Mode(StrEnum):
    """What stands between us and the server."""

    DIRECT = "direct"
    SESSION_POOLER = "session pooler"
    TRANSACTION_POOLER = "transaction pooler"
    # Found by connecting; nothing tells which of the two kinds it is.
    POOLER = "pooler"


@dataclass(frozen=True, slots=True)
class Target:
    """A parsed DSN; its repr holds no secret.

    Attributes:
        hosts, ports, database: Handed to the driver with the DSN, so that what was checked is what is connected to,
            whatever the environment (PGPORT, PGDATABASE) says.
        mode: None until somebody connects and looks: neither the address nor a setting tells.
    """

    dsn: str = field(repr=False)
    hosts: tuple[str, ...]
    ports: tuple[int, ...]
    database: str
    sslmode: str | None
    sslrootcert: str | None
    mode: Mode | None

    @property
    def is_loopback(self) -> bool:
        """Whether every host is this machine."""
        return all(_is_loopback(host) for host in self.hosts)

    def __str__(self) -> str:
        places = ",".join(f"{host}:{port}" for host, port in zip(self.hosts, self.ports, strict=True))
        return f"{places}/{self.database}"


def parse_target(dsn: str, pooler_mode: PoolerMode = "auto") -> Target:
    """Take a DSN apart.

    Args:
        dsn: As PostgreSQL's own clients take it.
        pooler_mode: What stands before the server; ``auto`` goes by Supabase's ports and host names.

    Raises:
        ConfigurationError: it is none; the message says what is wrong and quotes nothing of it.
    """
    try:
        parts = urlsplit(dsn.strip())
        query = parse_qs(parts.query, strict_parsing=True) if parts.query else {}
    except ValueError:
        raise _malformed("it cannot be read") from None
    if parts.scheme not in {"postgresql", "postgres"}:
        raise _malformed("it must start with postgresql://")
    if parts.fragment or "@" in parts.path or "/" in parts.path[1:] or parts.netloc.count("@") > 1:
        raise _malformed("a special character is not percent-encoded")
    user, _, hostspec = parts.netloc.rpartition("@")
    settings = {name: values[-1] for name, values in query.items()}
    _refuse_named_twice(hostspec, parts.path, settings)
    hosts, ports = _hosts_and_ports(unquote(hostspec) or settings.get("host", ""), settings.get("port"))
    database = unquote(parts.path[1:]) or settings.get("dbname") or settings.get("database")
    return Target(
        dsn=dsn.strip(),
        hosts=hosts,
        ports=ports,
        # Without one, PostgreSQL takes the user's name.
        database=database or unquote(user.partition(":")[0]) or settings.get("user") or "postgres",
        sslmode=settings.get("sslmode"),
        sslrootcert=settings.get("sslrootcert"),
        mode=_mode(pooler_mode, hosts, ports),
    )


def _mode(pooler_mode: PoolerMode, hosts: tuple[str, ...], ports: tuple[int, ...]) -> Mode | None:
    named = {"none": Mode.DIRECT, "session": Mode.SESSION_POOLER, "transaction": Mode.TRANSACTION_POOLER}
    if pooler_mode != "auto":
        return named[pooler_mode]
    if _TRANSACTION_POOLER_PORT in ports:
        return Mode.TRANSACTION_POOLER
    if any(host.endswith(_SUPABASE_POOLER) for host in hosts):
        return Mode.SESSION_POOLER
    return None


def require_secure(target: Target, *, production: bool) -> None:
    """Refuse a connection that somebody between us and the server could read or answer.

    Raises:
        ConfigurationError: in production, sslmode is less than verify-full and the server is another machine; or the
            file with the CA's certificate is not there, which is no reason to try again later.
    """
    if target.sslrootcert is not None and not Path(target.sslrootcert).is_file():
        raise ConfigurationError(f"SUPABASE_DB_URL: there is no file {target.sslrootcert}, which sslrootcert names.")
    if not production:
        return
    if target.is_loopback or target.sslmode == "verify-full":
        return
    raise ConfigurationError(
        f"SUPABASE_DB_URL: sslmode is {target.sslmode or 'not set'}; NEXUS_ENV=production needs verify-full. Add "
        "?sslmode=verify-full&sslrootcert=/path/to/ca.crt (Supabase: Project settings > Database > SSL configuration "
        "> Download certificate)."
    )


def _refuse_named_twice(hostspec: str, path: str, settings: Mapping[str, str]) -> None:
    """PostgreSQL's clients differ in which of two they take: one would be checked, and the other connected to."""
    if hostspec and not settings.keys().isdisjoint({"host", "hostaddr", "port"}):
        raise _malformed("host and port belong either before the ? or behind it, not in both places")
    if (path != "") + ("dbname" in settings) + ("database" in settings) > 1:
        raise _malformed("the database's name belongs either before the ? or behind it, not in both places")


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
            raise _malformed("a host is needed, and special characters in the password must be percent-encoded")
        if port and portspec:
            raise _malformed("the port is named twice")
        port = port or portspec or "5432"
        if not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
            raise _malformed("the port is not a number; special characters in the password must be percent-encoded")
        hosts.append(host)
        ports.append(int(port))
    return tuple(hosts), tuple(ports)


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _is_loopback(host: str) -> bool:
    if host.startswith("/") or host == "localhost":
        return True
    address = _address(host)
    return address is not None and address.is_loopback


def _malformed(problem: str) -> ConfigurationError:
    return ConfigurationError(
        f"SUPABASE_DB_URL: {problem}. It looks like {_EXAMPLE}; in the password write @ as %40, # as %23, / as %2F, "
        "? as %3F, : as %3A."
    )
