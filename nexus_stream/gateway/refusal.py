"""The exception that refuses a request: a status and a JSON body with ``error`` and ``code``.

It never holds a refused value.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

__all__ = ["RequestRefusedError"]


class RequestRefusedError(Exception):
    """The answer is ``status`` with ``{"error": ..., "code": ..., "details": {...}}``.

    Attributes:
        status: HTTP status, 4xx or 503.
        error: The problem, for a developer.
        code: The problem, for a program: a `RefusalCode`. Also the label of the metrics.
        details: The problem of each field; not in the body if empty.
        code: The problem, stable, for a program; docs/reference/errors.md lists all.
        retry_after_seconds: Sent as ``Retry-After``, rounded up.
        close: Close the connection instead of reading the rest of the body.
    """

    def __init__(
        self,
        status: int,
        error: str,
        details: Mapping[str, str] | None = None,
        *,
        code: str,
        retry_after_seconds: float | None = None,
        close: bool = False,
    ) -> None:
        super().__init__(error)
        self.status = status
        self.error = error
        self.code = code
        self.details = dict(details or {})
        self.code = code
        self.retry_after_seconds = retry_after_seconds
        self.close = close

    @property
    def body(self) -> dict[str, object]:
        """The JSON body."""
        body: dict[str, object] = {"error": self.error, "code": self.code}
        return body | {"details": self.details} if self.details else body

    @property
    def headers(self) -> dict[str, str]:
        """``Retry-After`` in whole seconds, at least 1, if a retry can help."""
        if self.retry_after_seconds is None:
            return {}
        return {"Retry-After": str(max(1, math.ceil(self.retry_after_seconds)))}
