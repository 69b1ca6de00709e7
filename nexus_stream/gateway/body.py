"""Read a request's body. Bounds: its bytes, its time, and the bytes of all requests together.

Only bodies with a JSON content type are read. Compressed bodies are refused unread: a small one could grow very large.
"""

from __future__ import annotations

import asyncio

from aiohttp import web

from nexus_stream.contracts.refusal_codes import RefusalCode
from nexus_stream.gateway.refusal import RequestRefusedError

__all__ = ["ByteBudget", "read_body", "require_json"]

_RETRY_SECONDS = 1.0
_UTF8 = frozenset({"utf-8", "utf8", "us-ascii"})


class ByteBudget:
    """A number of bytes that all requests share, so that the memory of the process stays bounded."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self.used_bytes = 0

    def take(self, count: int) -> bool:
        """Reserve ``count`` bytes; False if they do not fit, and then none is reserved."""
        if self.used_bytes + count > self._max_bytes:
            return False
        self.used_bytes += count
        return True

    def give_back(self, count: int) -> None:
        """Release ``count`` reserved bytes."""
        self.used_bytes -= count


def require_json(request: web.Request) -> None:
    """Refuse a request whose headers do not announce JSON.

    ``text/plain`` is accepted, because ``navigator.sendBeacon`` sends it for a string. A missing content type is
    accepted too, because the existing site never required one.

    Raises:
        RequestRefusedError: 415.
    """
    content_type = request.content_type if "Content-Type" in request.headers else "application/json"
    is_json = content_type in {"application/json", "text/plain"} or (
        content_type.startswith("application/") and content_type.endswith("+json")
    )
    if not is_json:
        raise RequestRefusedError(
            415,
            "Content-Type must be application/json",
            {"content-type": "application/json or text/plain with JSON"},
            code=RefusalCode.CONTENT_TYPE_UNSUPPORTED,
        )
    charset = request.charset
    if charset is not None and charset.lower() not in _UTF8:
        raise RequestRefusedError(
            415,
            "The charset must be utf-8",
            {"content-type": "JSON is UTF-8 (RFC 8259)"},
            code=RefusalCode.CHARSET_UNSUPPORTED,
        )
    if request.headers.get("Content-Encoding", "identity").strip().lower() not in {"identity", ""}:
        raise RequestRefusedError(
            415,
            "Compressed bodies are not accepted",
            {"content-encoding": "send it plain"},
            code=RefusalCode.ENCODING_UNSUPPORTED,
        )


async def read_body(request: web.Request, max_bytes: int, timeout_seconds: float, budget: ByteBudget) -> bytes:
    """Read the whole body. Its bytes of ``budget`` are released on return: then the publisher's own bound counts.

    Raises:
        RequestRefusedError: 413 over ``max_bytes``, announced or sent; 408 if the body does not arrive in time; 503 if
            all requests together use up ``budget``; 400 if the body is incomplete.
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
                        code=RefusalCode.OVERLOADED,
                        retry_after_seconds=_RETRY_SECONDS,
                        close=True,
                    )
                held_bytes += len(chunk)
                chunks.append(chunk)
    except TimeoutError:
        raise RequestRefusedError(
            408, f"The body did not arrive in {timeout_seconds:g} s", code=RefusalCode.BODY_TIMEOUT, close=True
        ) from None
    except (web.RequestPayloadError, ConnectionError) as error:
        raise RequestRefusedError(
            400, "The body is incomplete or wrongly encoded", code=RefusalCode.BODY_INCOMPLETE, close=True
        ) from error
    finally:
        budget.give_back(held_bytes)
    return b"".join(chunks)


def _too_large(max_bytes: int) -> RequestRefusedError:
    return RequestRefusedError(
        413,
        f"The body is over {max_bytes} bytes",
        {"body": f"at most {max_bytes} bytes"},
        code=RefusalCode.BODY_TOO_LARGE,
        close=True,
    )
