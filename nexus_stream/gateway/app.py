"""The gateway's HTTP contract: ``/api/nexus/producer``, ``/live``, ``/ready`` and ``/openapi.json``.

From: browsers (fetch, ``navigator.sendBeacon``) and servers. To: publisher.py. The gateway sends a 202 only after the
broker's acknowledgement. Every answer is JSON, also 404, 405 and refusals; a refusal has a code
(contracts/refusal_codes.py). Logs hold nothing about a person: no
address, no header, no body.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Protocol

from aiohttp import hdrs, web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.typedefs import Handler, Middleware
from aiokafka.structs import RecordMetadata

from nexus_stream import __version__
from nexus_stream.contracts.headers import CORRELATION_ID_HEADER, PRODUCER_VERSION_HEADER, TRACEPARENT_HEADER
from nexus_stream.contracts.limits import gateway_limits
from nexus_stream.contracts.message_id import message_id
from nexus_stream.contracts.openapi import openapi_text
from nexus_stream.contracts.refusal_codes import RefusalCode
from nexus_stream.contracts.status import ProcessState
from nexus_stream.delivery.facts import Facts
from nexus_stream.errors import BrokerUnavailableError, PermanentError
from nexus_stream.gateway.admission import Admission
from nexus_stream.gateway.answer import STANDARD_HEADERS, http_error, json_answer
from nexus_stream.gateway.body import ByteBudget, read_body, require_json
from nexus_stream.gateway.cors import CorsPolicy
from nexus_stream.gateway.record import IngestionRecord, RequestContext, ingestion_record
from nexus_stream.gateway.refusal import RequestRefusedError
from nexus_stream.gateway.retention import RETRY_AFTER_SECONDS, RetentionWatch
from nexus_stream.host.log import get_logger
from nexus_stream.observability.event_lines import EventLines, hashed
from nexus_stream.observability.metrics_gateway import RequestMetrics
from nexus_stream.settings import Settings

if TYPE_CHECKING:
    from nexus_stream.observability.otel_tracing import Tracing

__all__ = ["PRODUCER_PATH", "PRODUCER_VERSION", "Gateway", "PublishesRecords", "create_app"]

PRODUCER_PATH = "/api/nexus/producer"
PRODUCER_VERSION = f"nexus-stream/{__version__}"

_log = get_logger(__name__)

# Some sites and frameworks add the slash. A redirect instead would fail a preflight.
_PRODUCER_PATHS = (PRODUCER_PATH, f"{PRODUCER_PATH}/")

_BODY_TIMEOUT_SECONDS = 10.0
# Bytes of all bodies being received at one moment. Records pending at the broker have their own bound (publisher.py).
_BODY_BUDGET_BYTES = 64 * 1024 * 1024
_BROKER_RETRY_SECONDS = 2.0
# Longer than the idle timeout of common load balancers (60 s), so that they close first. aiohttp also closes a
# connection if the request headers do not arrive within this time.
_KEEPALIVE_SECONDS = 75.0
# After a refusal the gateway reads and drops the rest of the body for this long, so that the client sees the answer.
_LINGERING_SECONDS = 5.0
_MAX_HEADER_BYTES = 16_384
_ACCEPTED = 202
_SERVER_ERROR = 500


class PublishesRecords(Protocol):
    """Port to the broker; publisher.py implements it."""

    @property
    def connected(self) -> bool:
        """Whether the broker accepts records now."""

    @property
    def problem(self) -> str:
        """Why it does not."""

    async def publish(self, value: bytes, key: bytes, headers: Sequence[tuple[str, bytes]]) -> RecordMetadata:
        """Send one record and wait for the acknowledgement."""


class Gateway:
    """The request handlers and their shared state: rate limiter, byte budget, requests in flight."""

    def __init__(
        self,
        settings: Settings,
        publisher: PublishesRecords,
        *,
        body_timeout_seconds: float,
        tracing: Tracing | None = None,
        retention: RetentionWatch | None = None,
    ) -> None:
        self._settings = settings
        self._publisher = publisher
        self._retention = retention
        self._tracing = tracing
        self._accepted = EventLines(__name__)
        self._body_timeout_seconds = body_timeout_seconds
        self._limits = gateway_limits(settings)
        self._admission = Admission(settings)
        self._identity_secrets = tuple(
            secret.get_secret_value().encode() for secret in settings.gateway_identity_secrets.values()
        )
        self._budget = ByteBudget(max(_BODY_BUDGET_BYTES, 4 * self._limits.read_bytes))
        self._cors = CorsPolicy(settings.gateway_allowed_origins)
        self._in_flight = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._draining = False
        self._metrics = RequestMetrics(settings.gateway_server_keys)
        # For the status record: posts by outcome, and their latency.
        self.outcomes: Counter[str] = Counter()
        self.facts = Facts()

    async def drain(self, timeout_seconds: float) -> bool:
        """Close connections after their current request, and wait for those requests; False when time is up."""
        self._draining = True
        try:
            async with asyncio.timeout(timeout_seconds):
                await self._idle.wait()
        except TimeoutError:
            return False
        return True

    async def post(self, request: web.Request) -> web.StreamResponse:
        """Accept one snapshot."""
        started = time.perf_counter()
        admitted = self._admission.admit(request)
        self._metrics.admitted(admitted.key_name)
        require_json(request)
        body = await read_body(request, self._limits.read_bytes, self._body_timeout_seconds, self._budget)
        context = RequestContext(
            enqueued_at=_now(),
            producer_version=PRODUCER_VERSION,
            tenant_id=admitted.tenant_id,
            referer=request.headers.get(hdrs.REFERER),
            user_agent=request.headers.get(hdrs.USER_AGENT),
            identity_secrets=self._identity_secrets,
        )
        record = ingestion_record(body, context, self._limits)
        self.facts.noticed(record.noticed)
        if self._retention is not None and self._retention.problem is not None:
            raise RequestRefusedError(
                503,
                "Messages are not accepted: they might expire before they are read; try again later",
                code=RefusalCode.MESSAGES_MAY_EXPIRE,
                retry_after_seconds=RETRY_AFTER_SECONDS,
            )
        id_ = message_id()
        headers = [(CORRELATION_ID_HEADER, id_.encode()), (PRODUCER_VERSION_HEADER, PRODUCER_VERSION.encode())]
        try:
            stored = await self._publish(record, id_, headers)
        except BrokerUnavailableError as error:
            raise RequestRefusedError(
                503,
                "The message could not be queued; try again",
                code=RefusalCode.STOPPING if self._draining else RefusalCode.BROKER_UNAVAILABLE,
                retry_after_seconds=error.retry_after_seconds or _BROKER_RETRY_SECONDS,
            ) from error
        except PermanentError as error:
            raise RequestRefusedError(
                413, "The body is over the broker's limit", code=RefusalCode.RECORD_TOO_LARGE
            ) from error
        self._metrics.identity(None if record.identity is None else record.identity.outcome)
        if self._accepted.is_on:
            self._accepted.write(
                "message accepted",
                {
                    "stage": "gateway",
                    "message_id": id_,
                    "topic": stored.topic,
                    "partition": stored.partition,
                    "offset": stored.offset,
                    "session": hashed(record.key),
                    "took_ms": round((time.perf_counter() - started) * 1000),
                },
            )
        return json_answer(
            {
                "status": "accepted",
                "messageId": id_,
                "kafka": {"offset": stored.offset, "partition": stored.partition, "topicName": stored.topic},
                "message": "Your message has been queued for processing",
                "estimatedProcessingTime": "2-5 seconds",
            },
            202,
            {"X-Message-Id": id_, "X-Processing-Time": f"{round((time.perf_counter() - started) * 1000)}ms"},
        )

    async def _publish(self, record: IngestionRecord, id_: str, headers: list[tuple[str, bytes]]) -> RecordMetadata:
        if self._tracing is None:
            return await self._publisher.publish(record.value, record.key, headers)
        with self._tracing.publishing(self._settings.ingestion_topic, id_) as sending:
            stored = await self._publisher.publish(record.value, record.key, [*headers, sending.header])
            sending.stored(stored.partition, stored.offset)
            return stored

    async def health(self, request: web.Request) -> web.StreamResponse:
        """Answer whether messages are accepted; sends no message."""
        problem = self._refuses_because()
        if problem is not None:
            return json_answer(
                {"status": "unhealthy", "version": __version__, "error": problem, "code": self._problem_code()}, 503
            )
        return json_answer(
            {
                "status": "healthy",
                "version": __version__,
                "role": "message-producer",
                "transport": "kafka",
                "topic": self._settings.ingestion_topic,
                "kafkaConfigured": True,
                "producerConnected": True,
                "timestamp": _now(),
            }
        )

    async def options(self, request: web.Request) -> web.StreamResponse:
        """Answer a preflight; `middleware` adds the CORS headers, as to every answer."""
        return web.Response(status=204, headers={**STANDARD_HEADERS, hdrs.ALLOW: "GET, HEAD, OPTIONS, POST"})

    async def openapi(self, request: web.Request) -> web.StreamResponse:
        """Answer with the OpenAPI document of this gateway."""
        return web.Response(
            text=openapi_text(), headers=STANDARD_HEADERS, content_type="application/json", charset="utf-8"
        )

    async def live(self, request: web.Request) -> web.StreamResponse:
        """Answer that the process runs, also while the broker is down: a restart would not help then."""
        return json_answer({"status": "live"})

    async def ready(self, request: web.Request) -> web.StreamResponse:
        """Answer whether a load balancer should send requests to this process."""
        error = self.not_ready_because()
        if error is not None:
            return json_answer({"status": "not ready", "error": error, "code": self._problem_code()}, 503)
        return json_answer({"status": "ready"})

    def not_ready_because(self) -> str | None:
        """Why a load balancer should send no requests to this process; None if it may."""
        return "stopping" if self._draining else self._refuses_because()

    def state(self) -> ProcessState:
        """The state of the process."""
        if self._draining:
            return "stopping"
        return "running" if self._refuses_because() is None else "waiting"

    def _refuses_because(self) -> str | None:
        if not self._publisher.connected:
            return self._publisher.problem
        return None if self._retention is None else self._retention.problem

    def _problem_code(self) -> RefusalCode:
        if self._draining:
            return RefusalCode.STOPPING
        if not self._publisher.connected:
            return RefusalCode.BROKER_UNAVAILABLE
        return RefusalCode.MESSAGES_MAY_EXPIRE

    async def _traced_answer(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if self._tracing is None or request.path not in _PRODUCER_PATHS or request.method != hdrs.METH_POST:
            return await self._answer(request, handler)
        with self._tracing.request(hdrs.METH_POST, PRODUCER_PATH, request.headers.get(TRACEPARENT_HEADER)) as span:
            response = await self._answer(request, handler)
            span.answered(response.status)
            return response

    async def _answer(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            return await handler(request)
        except RequestRefusedError as refusal:
            # At DEBUG: any client can cause many refusals. The metrics count them.
            _log.debug(
                "message refused", extra={"event": "message_refused", "status": refusal.status, "code": refusal.code}
            )
            self._metrics.refused(refusal.code)
            self.facts.refused(refusal.code)
            response = json_answer(refusal.body, refusal.status, refusal.headers)
            if refusal.close:
                response.force_close()
            return response
        except web.HTTPException as error:
            return http_error(error)
        except Exception as error:
            # Only the type and the place: the message of an unexpected error may quote the request.
            _log.error(
                "request failed",
                extra={"event": "request_failed", "error": type(error).__name__, "place": _place(error)},
            )
            self._metrics.refused(RefusalCode.INTERNAL_ERROR)
            return json_answer({"error": "Internal error", "code": RefusalCode.INTERNAL_ERROR}, 500)

    def _count(self, status: int, started: float) -> None:
        self.outcomes["accepted" if status == _ACCEPTED else "failed" if status >= _SERVER_ERROR else "refused"] += 1
        now = time.monotonic()
        self.facts.took(now - started, now)

    def _cors_headers(self, request: web.Request) -> dict[str, str]:
        return self._cors.headers(
            request.headers.get(hdrs.ORIGIN),
            preflight=request.method == hdrs.METH_OPTIONS,
            requested=request.headers.get(hdrs.ACCESS_CONTROL_REQUEST_HEADERS, ""),
        )

    def middleware(self) -> Middleware:
        """The middleware of every request: metrics, JSON errors, CORS."""

        @web.middleware
        async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
            self._in_flight += 1
            self._idle.clear()
            started = time.monotonic()
            try:
                response = await self._traced_answer(request, handler)
                if request.path in _PRODUCER_PATHS:
                    self._metrics.answered(request.method, response.status, time.monotonic() - started)
                    if request.method == hdrs.METH_POST:
                        self._count(response.status, started)
            finally:
                self._in_flight -= 1
                if self._in_flight == 0:
                    self._idle.set()
            if request.path in _PRODUCER_PATHS:
                response.headers.update(self._cors_headers(request))
            if self._draining:
                response.force_close()
            return response

        return middleware


GATEWAY: web.AppKey[Gateway] = web.AppKey("gateway", Gateway)


def create_app(
    settings: Settings,
    publisher: PublishesRecords,
    *,
    body_timeout_seconds: float = _BODY_TIMEOUT_SECONDS,
    tracing: Tracing | None = None,
    retention: RetentionWatch | None = None,
) -> web.Application:
    """Create the application; the caller starts and stops the publisher.

    Args:
        settings: Limits, allowed origins, topic.
        publisher: Sends the records.
        body_timeout_seconds: A body must arrive within this time.
        tracing: Makes a span of each post; None: no spans.
        retention: Refuses messages that might expire unread; None: refuses none.
    """
    gateway = Gateway(
        settings, publisher, body_timeout_seconds=body_timeout_seconds, tracing=tracing, retention=retention
    )
    http_log = logging.getLogger(f"{__name__}.http")
    http_log.addFilter(_without_personal_data)
    app = web.Application(
        middlewares=[gateway.middleware()],
        handler_args={
            # No access log: its lines hold addresses, referers and user agents.
            "access_log": None,
            "logger": http_log,
            "auto_decompress": False,
            "keepalive_timeout": _KEEPALIVE_SECONDS,
            "lingering_time": _LINGERING_SECONDS,
            "max_field_size": _MAX_HEADER_BYTES,
        },
    )
    app[GATEWAY] = gateway
    for path in _PRODUCER_PATHS:
        app.router.add_get(path, gateway.health)
        app.router.add_post(path, gateway.post)
        app.router.add_options(path, gateway.options)
    app.router.add_get("/live", gateway.live)
    app.router.add_get("/ready", gateway.ready)
    app.router.add_get("/openapi.json", gateway.openapi)
    return app


def _without_personal_data(record: logging.LogRecord) -> bool:
    # aiohttp's own message holds the peer's address, and quotes bytes that are not HTTP.
    error = record.exc_info[0] if record.exc_info else None
    record.msg, record.args = f"connection error: {error.__name__ if error else 'unknown'}", ()
    record.exc_info = record.exc_text = record.stack_info = None
    if error is not None and issubclass(error, HttpProcessingError):
        # Scanners send bytes that are not HTTP all day. That is no fault of the gateway.
        record.levelno, record.levelname = logging.INFO, "INFO"
    return True


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _place(error: BaseException) -> str:
    traceback = error.__traceback__
    while traceback is not None and traceback.tb_next is not None:
        traceback = traceback.tb_next
    return f"{traceback.tb_frame.f_code.co_filename}:{traceback.tb_lineno}" if traceback else ""
