"""Login of the console: tokens, signed cookies, roles, protection of forms.

An operator sees people's data and may act. A viewer sees masked data and may not act. Without any token the console
serves only its own host, and every user there is an operator.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlsplit

from itsdangerous import BadData, URLSafeSerializer
from pydantic import SecretStr

from nexus_stream.errors import ConfigurationError
from nexus_stream.host.addresses import is_loopback
from nexus_stream.settings import Settings

__all__ = ["COOKIE", "Access", "ConsoleRole", "Identity"]

ConsoleRole = Literal["operator", "viewer"]

COOKIE = "nexus_console"
_MAX_NAME_CHARS = 60
_CSRF_BYTES = 32


@dataclass(frozen=True, slots=True)
class Identity:
    """A user who is logged in.

    Attributes:
        role: The user's role.
        name: The name that the user chose, for the audit log. Nothing proves it.
        csrf: The token that the user's forms must contain. Empty for a program with a bearer token: it sends no forms.
    """

    role: ConsoleRole
    name: str
    csrf: str = ""

    @property
    def is_operator(self) -> bool:
        """Whether the user sees people's data and may act."""
        return self.role == "operator"


class Access:
    """Checks credentials and signs cookies.

    Args:
        settings: Tokens, host, lifetime.
        now: Unix seconds.
    """

    def __init__(self, settings: Settings, now: Callable[[], float] = time.time) -> None:
        tokens: dict[ConsoleRole, SecretStr | None] = {
            "operator": settings.console_token,
            "viewer": settings.console_viewer_token,
        }
        self._tokens = [(role, token.get_secret_value()) for role, token in tokens.items() if token is not None]
        self._hosts = frozenset(host.lower() for host in settings.console_hosts)
        self._lifetime_seconds = settings.console_session_hours * 3600
        self._now = now
        key = secrets.token_bytes(32)
        if self._tokens:
            # The key comes from the tokens. So several consoles accept each other's cookies, and a new token ends every
            # session.
            key = hmac.digest(b"nexus-console-cookies", json.dumps(self._tokens).encode(), "sha256")
        self._cookies = URLSafeSerializer(key, signer_kwargs={"digest_method": hashlib.sha256})

    @property
    def needs_login(self) -> bool:
        """Whether there is a token to log in with."""
        return bool(self._tokens)

    def require_safe_host(self, host: str) -> None:
        """Refuse an address that other machines can reach, if no login is required.

        Raises:
            ConfigurationError: the address is not a loopback address, and no token is set.
        """
        if not self.needs_login and not is_loopback(host):
            raise ConfigurationError(
                f"NEXUS_CONSOLE_HOST: {host} can be reached from other machines, and the console shows personal data. "
                "Set NEXUS_CONSOLE_TOKEN (and NEXUS_CONSOLE_VIEWER_TOKEN for viewers), or use a loopback address: "
                "127.0.0.1, ::1 or localhost. To open the console from another machine, use a tunnel: "
                "ssh -L 8090:127.0.0.1:8090 HOST."
            )

    def answers_to(self, host: str) -> bool:
        """Whether the console answers requests for that host name.

        Without a login, another site could point its own name at this address (DNS rebinding) and read everything.
        With a login, requests of such a page come without the console's cookie.
        """
        name = _without_port(host)
        return self.needs_login or is_loopback(name) or name.lower() in self._hosts

    def of_token(self, token: str, name: str) -> Identity | None:
        """The user of that token. None if the token is not valid."""
        found: ConsoleRole | None = None
        for role, known in self._tokens:
            # Compare every token, each in constant time.
            if hmac.compare_digest(token.encode("utf-8", "replace"), known.encode()):
                found = role
        return None if found is None else Identity(found, _clean(name) or found)

    def of_bearer(self, header: str) -> Identity | None:
        """The user of an ``Authorization`` header. None if it has no valid token."""
        scheme, _, token = header.partition(" ")
        return self.of_token(token.strip(), "api") if scheme.lower() == "bearer" else None

    def anyone(self) -> Identity | None:
        """The user of a request without a cookie: an operator if no token is set, otherwise None."""
        return None if self._tokens else Identity("operator", "local")

    def sign(self, identity: Identity) -> str:
        """Return a cookie for a user who is logged in."""
        until = int(self._now() + self._lifetime_seconds)
        # The form token is in the cookie: no script and no other site can read an HttpOnly cookie.
        return str(self._cookies.dumps([identity.role, identity.name, until, secrets.token_hex(_CSRF_BYTES)]))

    def of_cookie(self, cookie: str) -> Identity | None:
        """The user of the cookie. None if the cookie is not valid or too old."""
        try:
            role, name, until, csrf = self._cookies.loads(cookie.encode("utf-8", "replace"))
        except BadData:
            return None
        return None if until < self._now() else Identity(role, name, csrf)

    @property
    def lifetime_seconds(self) -> int:
        """The lifetime of a cookie."""
        return int(self._lifetime_seconds)

    def is_own_form(self, identity: Identity, token: str, origin: str | None, host: str) -> bool:
        """Whether the form is from this console: its token is valid, and the browser names no other origin."""
        if not identity.csrf or not hmac.compare_digest(token.encode("utf-8", "replace"), identity.csrf.encode()):
            return False
        return self.is_own_origin(origin, host)

    @staticmethod
    def is_own_origin(origin: str | None, host: str) -> bool:
        """Whether this console served the page that sends. True if the browser names no origin."""
        try:
            return origin is None or urlsplit(origin).netloc.lower() == host.lower()
        except ValueError:
            return False


def _without_port(host: str) -> str:
    name, _, port = host.rpartition(":")
    return name if name and port.isdigit() else host


def _clean(name: str) -> str:
    return "".join(character for character in name if character.isprintable()).strip()[:_MAX_NAME_CHARS]
