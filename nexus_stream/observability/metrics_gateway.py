"""Metrics of the gateway: requests by answer, their duration, and the reasons of refusals."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from prometheus_client import Counter, Histogram

from nexus_stream.observability.metrics import LATENCY_BUCKETS

__all__ = ["REFUSED_REASONS", "RequestMetrics"]

_REQUESTS = Counter("nexus_gateway_requests_total", "Requests by their answer", ["method", "status"])
_SECONDS = Histogram(
    "nexus_gateway_request_seconds",
    "From a request's headers to its answer, the broker's acknowledgement included",
    ["method"],
    buckets=LATENCY_BUCKETS,
)
_REFUSED = Counter("nexus_gateway_refused_total", "Messages that were not accepted, by why", ["reason"])

# A client may send any word as a method; the number of labels must stay bounded.
_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS", "POST"})
REFUSED_REASONS: Final = (
    "broker",
    "incomplete",
    "internal",
    "invalid",
    "not_json",
    "overloaded",
    "rate_limited",
    "retention",
    "stopping",
    "timeout",
    "too_large",
    "unsupported_type",
)
# The reason of a refusal that names none itself.
_BY_STATUS: Final[Mapping[int, str]] = {
    408: "timeout",
    413: "too_large",
    415: "unsupported_type",
    429: "rate_limited",
    500: "internal",
    503: "broker",
}


class RequestMetrics:
    """Counts requests; looks up each label only once."""

    def __init__(self) -> None:
        self._requests: dict[tuple[str, int], Counter] = {}
        self._seconds: dict[str, Histogram] = {}
        self._refused = {reason: _REFUSED.labels(reason) for reason in REFUSED_REASONS}
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

    def refused(self, status: int, reason: str | None) -> None:
        """Count a refused message, by its reason or by its status."""
        self._refused[reason or _BY_STATUS.get(status, "invalid")].inc()
