"""Read a request's body: JSON by its headers, bounded in bytes, in time, and in what all requests together hold.

From: the socket. To: record.py. Compressed bodies are refused unread, so a small request cannot become a large one.
"""

from __future__ import annotations

import asyncio

from aiohttp import web

from nexus_stream.gateway.refusal import RequestRefusedError

__all__ = ["ByteBudget", "read_body", "require_json"]

_RETRY_SECONDS = 1.0
_UTF8 = frozenset({"utf-8", "utf8", "us-ascii"})


class ByteBudget:
    """Bytes that many requests share; what does not fit is refused instead of growing the process."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self.used_bytes = 0

    def take(self, count: int) -> bool:
        """Reserve; False when it does not fit, and nothing was reserved."""
        if self.used_bytes + count > self._max_bytes:
            return False
        self.used_bytes += count
        return True

    def give_back(self, count: int) -> None:
        """Release what was taken."""
        self.used_bytes -= count


def require_json(request: web.Request) -> None:
    """Refuse what does not claim to be JSON.

    ``text/plain`` is taken: it is what ``navigator.sendBeacon`` sends for a string. So is a missing content type: the
    existing site's clients were never asked for one.

    Raises:
        RequestRefusedError: 415.
    """
    content_type = request.content_type if "Content-Type" in request.headers else "application/json"
    is_json = content_type in {"application/json", "text/plain"} or (
        content_type.startswith("application/") and content_type.endswith("+json")
    )
    if not is_json:
        raise RequestRefusedError(
            415, "Content-Type must be application/json", {"content-type": "application/json or text/plain with JSON"}
        )
    charset = request.charset
    if charset is not None and charset.lower() not in _UTF8:
        raise RequestRefusedError(415, "The charset must be utf-8", {"content-type": "JSON is UTF-8 (RFC 8259)"})
    if request.headers.get("Content-Encoding", "identity").strip().lower() not in {"identity", ""}:
        raise RequestRefusedError(415, "Compressed bodies are not accepted", {"content-encoding": "send it plain"})


async def read_body(request: web.Request, max_bytes: int, timeout_seconds: float, budget: ByteBudget) -> bytes:
    """The whole body. What it holds of ``budget`` is released on return: from there the publisher's own bound counts.

    Raises:
        RequestRefusedError: 413 over ``max_bytes``, announced or sent; 408 when it does not arrive in time; 503 while
            all requests together hold too much; 400 when it breaks off.
    """
    if request.content_length is not None and request.content_length > max_bytes:
        raise _too_large(max_bytes)
    chunks: list[bytes] = []
    held_bytes = 0
    try:
        async with asyncio.timeout(timeout_seconds):
            while chunk := await request.content.readany():
                if held_bytes + len(chunk) > max_bytes:
                    raise _too_large(max_bytes)
                if not budget.take(len(chunk)):
                    raise RequestRefusedError(
                        503,
                        "Too many requests at the same time",
                        retry_after_seconds=_RETRY_SECONDS,
                        close=True,
                        reason="overloaded",
                    )
                held_bytes += len(chunk)
                chunks.append(chunk)
    except TimeoutError:
        raise RequestRefusedError(408, f"The body did not arrive in {timeout_seconds:g} s", close=True) from None
    except (web.RequestPayloadError, ConnectionError) as error:
        raise RequestRefusedError(
            400, "The body is incomplete or wrongly encoded", close=True, reason="incomplete"
        ) from error
    finally:
        budget.give_back(held_bytes)
    return b"".join(chunks)


def _too_large(max_bytes: int) -> RequestRefusedError:
    return RequestRefusedError(
        413, f"The body is over {max_bytes} bytes", {"body": f"at most {max_bytes} bytes"}, close=True
    )
