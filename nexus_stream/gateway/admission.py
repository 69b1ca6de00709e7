"""Who posts: a visitor's browser, a server without a key, or the site's own server with its key. And how often.

Without ``NEXUS_GATEWAY_SERVER_KEYS`` a server may name a tenant as it always could, and the key's header is ignored.
With keys, only a request with a key may. A browser may never: ``x-tenant-id`` would let any page write into any tenant.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from aiohttp import hdrs, web

from nexus_stream.contracts.refusal_codes import RefusalCode
from nexus_stream.gateway.client_address import address_bucket, client_bucket
from nexus_stream.gateway.rate_limit import RateLimiter
from nexus_stream.gateway.refusal import RequestRefusedError
from nexus_stream.gateway.server_keys import SERVER_KEY_HEADER, ServerKeys
from nexus_stream.settings import Settings

__all__ = ["TENANT_HEADER", "VISITOR_ADDRESS_HEADER", "Admission", "Admitted"]

TENANT_HEADER = "x-tenant-id"
VISITOR_ADDRESS_HEADER = "x-nexus-visitor-address"
# Browsers set these, and pages cannot change them. Not `Sec-Fetch-Mode`: the fetch of Node.js sends it too.
_SET_BY_BROWSERS = (hdrs.ORIGIN, "Sec-Fetch-Site")


@dataclass(frozen=True, slots=True)
class Admitted:
    """What a request may claim.

    Attributes:
        tenant_id: The header as received; None if absent.
        key_name: The name of the server's key; None without a key.
    """

    tenant_id: str | None
    key_name: str | None


class Admission:
    """Checks keys, tenants and rates. The rate limits are counted in this process only."""

    def __init__(self, settings: Settings) -> None:
        self._keys = ServerKeys(
            {name: value.get_secret_value() for name, value in settings.gateway_server_keys.items()}
        )
        self._limiter = RateLimiter(settings.gateway_requests_per_minute)
        self._trusted_proxies = settings.gateway_trusted_proxies

    def admit(self, request: web.Request) -> Admitted:
        """Check one request's headers.

        Raises:
            RequestRefusedError: 429 over the rate, 401 for a wrong key, 403 for a tenant that needs a key.
        """
        sent = request.headers.get(SERVER_KEY_HEADER) if self._keys else None
        key_name = None if sent is None else self._keys.name_of(sent)
        self._take(self._visitor(request) if key_name is None else self._named_visitor(request))
        if sent is not None and key_name is None:
            raise RequestRefusedError(
                401, f"{SERVER_KEY_HEADER} is not a key of this gateway", code=RefusalCode.SERVER_KEY_WRONG
            )
        tenant_id = request.headers.get(TENANT_HEADER)
        if key_name is None and tenant_id is not None and tenant_id.strip():
            self._refuse_tenant_of_strangers(request.headers)
        return Admitted(tenant_id, key_name)

    def _refuse_tenant_of_strangers(self, headers: Mapping[str, str]) -> None:
        if self._keys or any(name in headers for name in _SET_BY_BROWSERS):
            raise RequestRefusedError(
                403,
                f"{TENANT_HEADER} is for the site's own server",
                {TENANT_HEADER: f"send it with {SERVER_KEY_HEADER}, or leave it out"},
                code=RefusalCode.TENANT_NEEDS_KEY,
            )

    def _visitor(self, request: web.Request) -> bytes:
        return client_bucket(request.remote, request.headers.getall(hdrs.X_FORWARDED_FOR, ()), self._trusted_proxies)

    @staticmethod
    def _named_visitor(request: web.Request) -> bytes | None:
        """The visitor that the site's server names. Its own address would be one limit for everybody."""
        return address_bucket(request.headers.get(VISITOR_ADDRESS_HEADER, ""))

    def _take(self, bucket: bytes | None) -> None:
        wait_seconds = 0.0 if bucket is None else self._limiter.take(bucket)
        if wait_seconds > 0:
            raise RequestRefusedError(
                429, "Too many requests", code=RefusalCode.TOO_MANY_REQUESTS, retry_after_seconds=wait_seconds
            )
