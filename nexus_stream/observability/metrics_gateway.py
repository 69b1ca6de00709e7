"""Metrics of the gateway: requests by answer, their duration, why messages were refused, keys and identities."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from prometheus_client import Counter, Histogram

from nexus_stream.contracts.refusal_codes import RefusalCode
from nexus_stream.observability.metrics import LATENCY_BUCKETS

__all__ = ["RequestMetrics"]

_REQUESTS = Counter("nexus_gateway_requests_total", "Requests by their answer", ["method", "status"])
_SECONDS = Histogram(
    "nexus_gateway_request_seconds",
    "From a request's headers to its answer, the broker's acknowledgement included",
    ["method"],
    buckets=LATENCY_BUCKETS,
)
_REFUSED = Counter("nexus_gateway_refused_total", "Messages that were not accepted, by why", ["code"])
_KEYED = Counter("nexus_gateway_keyed_total", "Posts with a server's key, by the key's name", ["key"])
_IDENTITIES = Counter("nexus_gateway_identities_total", "Accepted messages with an identity", ["outcome"])

# A client may send any word as a method; the number of labels must stay bounded.
_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS", "POST"})
_IDENTITY_OUTCOMES: Final = ("proven", "claimed", "wrong_hash")


class RequestMetrics:
    """Counts requests; looks up each label only once.

    Args:
        key_names: The names of the servers' keys.
    """

    def __init__(self, key_names: Iterable[str] = ()) -> None:
        self._requests: dict[tuple[str, int], Counter] = {}
        self._seconds: dict[str, Histogram] = {}
        for code in RefusalCode:
            _REFUSED.labels(str(code))
        self._keyed = {name: _KEYED.labels(name) for name in key_names}
        self._identities = {outcome: _IDENTITIES.labels(outcome) for outcome in _IDENTITY_OUTCOMES}
        # Create these series at the start, so that the first request counts as an increase.
        for status in (202, 400, 429, 500, 503):
            self._requests["POST", status] = _REQUESTS.labels("POST", str(status))

    def answered(self, method: str, status: int, seconds: float) -> None:
        """Count an answered request."""
        method = method if method in _METHODS else "other"
        requests = self._requests.get((method, status))
        if requests is None:
            requests = self._requests[method, status] = _REQUESTS.labels(method, str(status))
        requests.inc()
        timed = self._seconds.get(method)
        if timed is None:
            timed = self._seconds[method] = _SECONDS.labels(method)
        timed.observe(seconds)

    def refused(self, code: str) -> None:
        """Count a refused message, by its `RefusalCode`."""
        _REFUSED.labels(str(code)).inc()

    def admitted(self, key_name: str | None) -> None:
        """Count a post with a server's key."""
        if key_name is not None:
            self._keyed[key_name].inc()

    def identity(self, outcome: str | None) -> None:
        """Count an accepted message whose visitor claims an identity."""
        if outcome is not None:
            self._identities[outcome].inc()
