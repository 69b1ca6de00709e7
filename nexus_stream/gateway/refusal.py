"""The one exception with which a step of a request ends it: a status and a JSON body with ``error``.

Raised by body.py, record.py and app.py; turned into a response in app.py alone. It never holds a refused value.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

__all__ = ["RequestRefusedError"]


class RequestRefusedError(Exception):
    """The request is answered with ``status`` and ``{"error": ..., "details": {...}}``.

    Attributes:
        status: HTTP status, 4xx or 503.
        error: What is wrong, for a developer.
        details: Per field what is wrong; left out of the body when empty.
        retry_after_seconds: Sent as ``Retry-After``, rounded up.
        close: End the connection: the rest of the body is not worth reading.
        reason: Why, for counting (metrics_gateway.py), where the status does not say it.
    """

    def __init__(
        self,
        status: int,
        error: str,
        details: Mapping[str, str] | None = None,
        *,
        retry_after_seconds: float | None = None,
        close: bool = False,
        reason: str | None = None,
    ) -> None:
        super().__init__(error)
        self.status = status
        self.error = error
        self.details = dict(details or {})
        self.retry_after_seconds = retry_after_seconds
        self.close = close
        self.reason = reason

    @property
    def body(self) -> dict[str, object]:
        """The JSON body."""
        return {"error": self.error, "details": self.details} if self.details else {"error": self.error}

    @property
    def headers(self) -> dict[str, str]:
        """``Retry-After`` in whole seconds, at least 1, if trying again can help."""
        if self.retry_after_seconds is None:
            return {}
        return {"Retry-After": str(max(1, math.ceil(self.retry_after_seconds)))}
