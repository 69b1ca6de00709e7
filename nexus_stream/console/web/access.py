"""Who uses the console, and what they may: tokens, signed cookies, roles, protection of forms.

From: settings and request headers. To: guard.py. An operator acts and sees people's data; a viewer sees it masked and
acts on nothing. Without any token the console serves its own host only, and whoever reaches it is the operator.
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
    """Someone who is let in.

    Attributes:
        role: What they may.
        name: What they call themselves; for the audit log, proves nothing.
        csrf: What their forms must carry; empty for a program with a bearer token, which needs none.
    """

    role: ConsoleRole
    name: str
    csrf: str = ""

    @property
    def is_operator(self) -> bool:
        """Whether they see people's data and may act."""
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
            # From the tokens, so that several consoles know each other's cookies, and a new token ends every session.
            key = hmac.digest(b"nexus-console-cookies", json.dumps(self._tokens).encode(), "sha256")
        self._cookies = URLSafeSerializer(key, signer_kwargs={"digest_method": hashlib.sha256})

    @property
    def needs_login(self) -> bool:
        """Whether there is a token to log in with."""
        return bool(self._tokens)

    def require_safe_host(self, host: str) -> None:
        """Refuse an address that other machines can reach while anyone there would be let in.

        Raises:
            ConfigurationError: with what to set.
        """
        if not self.needs_login and not is_loopback(host):
            raise ConfigurationError(
                f"NEXUS_CONSOLE_HOST: {host} can be reached from other machines, and the console shows personal data. "
                "Set NEXUS_CONSOLE_TOKEN (and NEXUS_CONSOLE_VIEWER_TOKEN for who may only look), or serve a loopback "
                "address: 127.0.0.1, ::1 or localhost. To look from another machine, use a tunnel: "
                "ssh -L 8090:127.0.0.1:8090 HOST."
            )

    def answers_to(self, host: str) -> bool:
        """Whether a request may name that host.

        Without a login a page elsewhere could point its own name here (DNS rebinding) and read everything. With one,
        its requests come without our cookie.
        """
        name = _without_port(host)
        return self.needs_login or is_loopback(name) or name.lower() in self._hosts

    def of_token(self, token: str, name: str) -> Identity | None:
        """Who has that token; None for nobody."""
        found: ConsoleRole | None = None
        for role, known in self._tokens:
            # All are compared, and each in constant time.
            if hmac.compare_digest(token.encode("utf-8", "replace"), known.encode()):
                found = role
        return None if found is None else Identity(found, _clean(name) or found)

    def of_bearer(self, header: str) -> Identity | None:
        """Who an ``Authorization`` header names; None for nobody."""
        scheme, _, token = header.partition(" ")
        return self.of_token(token.strip(), "api") if scheme.lower() == "bearer" else None

    def anyone(self) -> Identity | None:
        """Who comes without a cookie: the operator where no token is set, else nobody."""
        return None if self._tokens else Identity("operator", "local")

    def sign(self, identity: Identity) -> str:
        """A cookie for someone who was let in."""
        until = int(self._now() + self._lifetime_seconds)
        # The form token is in the cookie: no script and no other site reads an HttpOnly cookie.
        return str(self._cookies.dumps([identity.role, identity.name, until, secrets.token_hex(_CSRF_BYTES)]))

    def of_cookie(self, cookie: str) -> Identity | None:
        """Whose cookie it is; None when it is nobody's, too old or not ours."""
        try:
            role, name, until, csrf = self._cookies.loads(cookie.encode("utf-8", "replace"))
        except BadData:
            return None
        return None if until < self._now() else Identity(role, name, csrf)

    @property
    def lifetime_seconds(self) -> int:
        """Of a cookie."""
        return int(self._lifetime_seconds)

    def is_own_form(self, identity: Identity, token: str, origin: str | None, host: str) -> bool:
        """Whether a form was ours: its token is, and the browser names no other origin."""
        if not identity.csrf or not hmac.compare_digest(token.encode("utf-8", "replace"), identity.csrf.encode()):
            return False
        return self.is_own_origin(origin, host)

    @staticmethod
    def is_own_origin(origin: str | None, host: str) -> bool:
        """Whether the page that sends is served from here; a browser that says nothing is believed."""
        try:
            return origin is None or urlsplit(origin).netloc.lower() == host.lower()
        except ValueError:
            return False


def _without_port(host: str) -> str:
    name, _, port = host.rpartition(":")
    return name if name and port.isdigit() else host


def _clean(name: str) -> str:
    return "".join(character for character in name if character.isprintable()).strip()[:_MAX_NAME_CHARS]
