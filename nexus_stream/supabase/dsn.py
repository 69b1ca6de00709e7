"""Make of ``SUPABASE_DB_URL``, as people paste it, a DSN that the driver can use.

Supabase, Vercel and Prisma add parameters that only their own clients know. asyncpg sends every parameter that it does
not know to the server, and PostgreSQL or its pooler refuses the connection. So a known one is used or left out, and any
other is refused by name.

Known parameters: PostgreSQL's manual, "Parameter Key Words" of libpq; Prisma's "PostgreSQL connector"; Supabase's
connection strings.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from urllib.parse import unquote_plus

from nexus_stream.errors import ConfigurationError

__all__ = ["Dsn", "clean_dsn", "malformed"]

_EXAMPLE = "postgresql://USER:PASSWORD@HOST:PORT/postgres"
# asyncpg's own (asyncpg/connect_utils.py), and settings of the server that a URL may hold.
_USED = re.compile(
    "host|hostaddr|port|dbname|database|user|password|passfile|service|servicefile|target_session_attrs|krbsrvname|"
    "gsslib|sslmode|sslcert|sslkey|sslrootcert|sslcrl|sslpassword|sslnegotiation|ssl_(min|max)_protocol_version|"
    "options|search_path|timezone|statement_timeout|lock_timeout",
    re.IGNORECASE,
)
# They change the connection here, and the driver does not get them.
_WITHOUT_STATEMENTS = ("statement_cache_size", "prepared_statement_cache_size", "prepare", "preparethreshold")
_MEANING = frozenset({"pgbouncer", "connect_timeout", "ssl", *_WITHOUT_STATEMENTS})
# Other clients' settings. nexus-stream has its own pool and its own names, and its tables are in the schema public.
_LEFT_OUT = re.compile(
    "supa|schema|connection_limit|(pool|socket|idle|connection)_timeout|pool_(size|mode)|max_connections|"
    "max(_idle|_connection)*_lifetime|sslaccept|sslidentity|uselibpqcompat|(fallback_)?application_name|"
    "channel_binding|client_encoding|gssencmode|gssdelegation|require_auth|requirepeer|requiressl|sslcompression|"
    "sslcertmode|sslsni|keepalives(_idle|_interval|_count)?|tcp_user_timeout|load_balance_hosts|"
    "(min|max)_protocol_version|binary_parameters",
    re.IGNORECASE,
)
_NO = frozenset({"0", "false", "off", "no"})
_PLACEHOLDER = re.compile(
    r"\[(your|db|database)?[-_ ]*password\]|<(your[-_ ]*)?password>|your[-_]password", re.IGNORECASE
)
_BRACKETS = re.compile(r"^[a-z]+://[^:/@]*:\[[^\]@]*\]@", re.IGNORECASE)
_NAME = re.compile(r"^[A-Za-z][A-Za-z_.]{0,39}$")


@dataclass(frozen=True, slots=True)
class Dsn:
    """A DSN for the driver. Its repr contains no secret.

    Attributes:
        left_out: Names of the parameters of other clients.
        is_pooled: Whether it asks for a connection without prepared statements.
        connect_timeout_seconds: None if it does not say.
    """

    text: str = field(repr=False)
    left_out: tuple[str, ...] = ()
    is_pooled: bool = False
    connect_timeout_seconds: float | None = None


def clean_dsn(pasted: str) -> Dsn:
    """Remove what surrounds the DSN, and the parameters that the driver does not know.

    Raises:
        ConfigurationError: it holds a placeholder, or a parameter that nobody knows. The message quotes nothing else.
    """
    text = _unquoted(pasted)
    _require_a_password(text)
    address, _, query = text.partition("?")
    address = re.sub(r"^(postgres(?:ql)?)\+[a-z0-9_]+://", r"\1://", address, flags=re.IGNORECASE)
    if not query:
        return Dsn(address)
    kept: list[str] = []
    left_out: list[str] = []
    meant: dict[str, str] = {}
    for pair in filter(None, query.split("&")):
        raw_name, _, raw_value = pair.partition("=")
        name, value = unquote_plus(raw_name), unquote_plus(raw_value)
        if name.lower() in _MEANING:
            meant[name.lower()] = value.strip().lower()
        elif _LEFT_OUT.fullmatch(name):
            left_out.append(name)
        elif name == "sslmode" and value == "no-verify":
            # node-postgres; libpq's word for it is require.
            kept.append("sslmode=require")
        elif _USED.fullmatch(name):
            kept.append(pair)
        else:
            raise _unknown(address, query, name)
    if "ssl" in meant and not any(pair.startswith("sslmode=") for pair in kept):
        kept.append(f"sslmode={'disable' if meant['ssl'] in _NO else 'require'}")
    return Dsn(
        f"{address}?{'&'.join(kept)}" if kept else address,
        tuple(left_out),
        is_pooled=_is_pooled(meant),
        connect_timeout_seconds=_seconds(meant.get("connect_timeout")),
    )


def malformed(problem: str) -> ConfigurationError:
    """The error for a DSN that cannot be used."""
    return ConfigurationError(
        f"SUPABASE_DB_URL: {problem}. The form is {_EXAMPLE}; in the password write @ as %40, # as %23, / as %2F, "
        "? as %3F, : as %3A, % as %25."
    )


def _unquoted(pasted: str) -> str:
    text = pasted.strip()
    while len(text) > 1 and text[0] == text[-1] and text[0] in "\"'`":
        text = text[1:-1].strip()
    return text


def _require_a_password(text: str) -> None:
    if _PLACEHOLDER.search(text):
        raise malformed("it still holds the placeholder for the password: replace it, its brackets too")
    if _BRACKETS.match(text):
        raise malformed("remove the brackets around the password: they belong to the placeholder")


def _unknown(address: str, query: str, name: str) -> ConfigurationError:
    # Behind an unescaped ? or & of the password stands the password, not a parameter.
    if "@" in query or not _NAME.match(name):
        return malformed("a special character is not percent-encoded, or a parameter behind the ? is not known")
    return malformed(f"the parameter {name} is not known to PostgreSQL's clients: remove it")


def _is_pooled(meant: dict[str, str]) -> bool:
    asks = meant.get("pgbouncer", "false") not in _NO
    return asks or any(meant.get(name) in _NO for name in _WITHOUT_STATEMENTS)


def _seconds(text: str | None) -> float | None:
    # 0 and negative numbers mean no limit to libpq. A worker needs one: the setting's.
    return float(text) if text is not None and text.isascii() and text.isdigit() and 0 < int(text) < 3600 else None
