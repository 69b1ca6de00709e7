"""Spans with the OpenTelemetry SDK (extra ``otel``), named by its semantic conventions.

To: a collector, over OTLP/HTTP, from a thread of the SDK. Spans that the collector cannot accept in time are dropped:
no process waits for it. Exceptions are not recorded, because a message may quote a user.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter, SpanExporter
from opentelemetry.trace import Span, SpanKind, StatusCode, Tracer
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from nexus_stream import __version__
from nexus_stream.contracts.headers import CORRELATION_ID_HEADER, TRACEPARENT_HEADER, Headers
from nexus_stream.delivery.outcomes import DeadLettered, Outcome, Superseded
from nexus_stream.delivery.received import Received
from nexus_stream.host.log import get_logger
from nexus_stream.observability.event_lines import shown_id

__all__ = ["ProducerSpan", "ServerSpan", "StageTracing", "Tracing"]

_log = get_logger(__name__)

# Only ``traceparent`` is passed on. ``tracestate`` and baggage are ignored: a client may write any text into them.
_TRACE_CONTEXT = TraceContextTextMapPropagator()
_CLOSE_SECONDS = 3.0
_SERVER_ERROR = 500


def context_of(traceparent: str | bytes | None) -> Context:
    """The context of a header. If the header is missing or malformed, an empty context, which starts a new trace."""
    if isinstance(traceparent, bytes):
        traceparent = traceparent.decode("latin-1")
    return _TRACE_CONTEXT.extract({TRACEPARENT_HEADER: traceparent or ""}, Context())


def traceparent_of(span: Span) -> str:
    """The header that continues a span's trace."""
    carrier: dict[str, str] = {}
    _TRACE_CONTEXT.inject(carrier, trace.set_span_in_context(span, Context()))
    return carrier[TRACEPARENT_HEADER]


def _fail(span: Span, kind: str) -> None:
    span.set_attribute("error.type", kind)
    span.set_status(StatusCode.ERROR)


class Tracing:
    """The traces of one process."""

    def __init__(self, provider: TracerProvider) -> None:
        self._provider = provider
        self._tracer = provider.get_tracer("nexus_stream", __version__)

    @classmethod
    def start(cls, role: str, exporters: frozenset[str], environ: Mapping[str, str]) -> Tracing:
        """Create the provider; the SDK reads sampler, limits and exporters from the environment.

        Args:
            role: The process type.
            exporters: ``otlp``, ``console`` or both.
            environ: Variables with the service's name.
        """
        attributes = {"service.version": __version__}
        named = environ.get("OTEL_SERVICE_NAME") or "service.name=" in environ.get("OTEL_RESOURCE_ATTRIBUTES", "")
        if not named:
            attributes["service.name"] = f"nexus-{role}"
        # `close` shuts the provider down within a time bound. At exit the SDK would wait for an unavailable collector.
        provider = TracerProvider(resource=Resource.create(attributes), shutdown_on_exit=False)
        for name in sorted(exporters):
            exporter: SpanExporter = OTLPSpanExporter() if name == "otlp" else ConsoleSpanExporter()
            provider.add_span_processor(BatchSpanProcessor(exporter))
        _log.info("tracing_started", exporters=",".join(sorted(exporters)))
        return cls(provider)

    async def close(self) -> None:
        """Export the finished spans, within a time bound."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_CLOSE_SECONDS):
                await asyncio.to_thread(self._provider.shutdown)

    # The gateway

    @contextmanager
    def request(self, method: str, route: str, traceparent: str | None) -> Iterator[ServerSpan]:
        """The span of a request; continues the caller's trace, if it has one."""
        span = self._tracer.start_span(
            f"{method} {route}",
            context=context_of(traceparent),
            kind=SpanKind.SERVER,
            attributes={"http.request.method": method, "http.route": route, "url.path": route, "url.scheme": "http"},
        )
        with trace.use_span(span, end_on_exit=True, record_exception=False, set_status_on_exception=False):
            yield ServerSpan(span)

    @contextmanager
    def publishing(self, topic: str, message_id: str) -> Iterator[ProducerSpan]:
        """The span of a send, a child of the request's span."""
        span = _producer_span(self._tracer, topic, None, message_id)
        try:
            yield ProducerSpan(span)
        except BaseException as error:
            _fail(span, type(error).__name__)
            raise
        finally:
            span.end()

    # The stages

    def stage(self, group: str) -> StageTracing:
        """The tracing of a stage that reads as this consumer group."""
        return StageTracing(self._tracer, group)

    @contextmanager
    def model_call(self, model: str, max_tokens: int) -> Iterator[ModelSpan]:
        """A span for one request to a model, below the record that is being extracted."""
        span = self._tracer.start_span(
            f"chat {model}",
            kind=SpanKind.CLIENT,
            attributes={
                "gen_ai.operation.name": "chat",
                "gen_ai.provider.name": "anthropic",
                "gen_ai.request.model": model,
                "gen_ai.request.max_tokens": max_tokens,
            },
        )
        call = ModelSpan(span)
        try:
            yield call
        except BaseException as error:
            call.failed(type(error).__name__)
            raise
        finally:
            span.end()


@dataclass(frozen=True, slots=True)
class ServerSpan:
    """A request that is being answered."""

    span: Span

    def answered(self, status: int) -> None:
        """Note the status of the answer."""
        self.span.set_attribute("http.response.status_code", status)
        if status >= _SERVER_ERROR:
            _fail(self.span, str(status))


@dataclass(frozen=True, slots=True)
class ProducerSpan:
    """A record that is being sent."""

    span: Span

    @property
    def header(self) -> tuple[str, bytes]:
        """The record header that continues the trace in the record's reader."""
        return TRACEPARENT_HEADER, traceparent_of(self.span).encode()

    def stored(self, partition: int, offset: int) -> None:
        """Note the partition and offset of the stored record."""
        self.span.set_attribute("messaging.destination.partition.id", str(partition))
        self.span.set_attribute("messaging.kafka.offset", offset)


@dataclass(frozen=True, slots=True)
class ModelSpan:
    """A request to a model, while it runs."""

    span: Span

    def answered(
        self, *, input_tokens: int, output_tokens: int, cache_read_tokens: int, cost_usd: float, stop_reason: str
    ) -> None:
        """The request was answered."""
        self.span.set_attributes(
            {
                "gen_ai.usage.input_tokens": input_tokens,
                "gen_ai.usage.output_tokens": output_tokens,
                "gen_ai.usage.cache_read.input_tokens": cache_read_tokens,
                "gen_ai.response.finish_reasons": [stop_reason],
                "nexus.cost_usd": cost_usd,
            }
        )

    def failed(self, kind: str) -> None:
        """The request failed; ``kind`` is an error class or an HTTP status."""
        _fail(self.span, kind)


@dataclass(slots=True)
class _Open:
    process: Span | None
    send: Span | None = None


class StageTracing:
    """The spans of the unfinished records of a stage.

    A record's ``process`` span begins when the record is read and ends with its outcome; all work for the record has
    child spans. The record's header holds the parent span, so a record that is read again after a crash continues the
    same trace.
    """

    def __init__(self, tracer: Tracer, group: str) -> None:
        self._tracer = tracer
        self._group = group
        self._open: dict[tuple[str, int, int], _Open] = {}

    def begin(self, record: Received) -> None:
        """A record was read."""
        attributes: dict[str, str | int] = {
            "messaging.system": "kafka",
            "messaging.operation.type": "process",
            "messaging.operation.name": "process",
            "messaging.destination.name": record.topic,
            "messaging.destination.partition.id": str(record.partition),
            "messaging.kafka.offset": record.offset,
            "messaging.consumer.group.name": self._group,
        }
        message_id = record.header(CORRELATION_ID_HEADER)
        if message_id is not None:
            attributes["messaging.message.conversation_id"] = shown_id(message_id)
        self._open[_key(record)] = _Open(
            self._tracer.start_span(
                f"process {record.topic}",
                context=context_of(record.header(TRACEPARENT_HEADER)),
                kind=SpanKind.CONSUMER,
                attributes=attributes,
            )
        )

    @contextmanager
    def extracting(self, record: Received) -> Iterator[None]:
        """A context around the extraction of a settled session: spans inside become children of the record's span."""
        opened = self._open.get(_key(record))
        if opened is None or opened.process is None:
            # The span of this snapshot has ended, because a newer snapshot replaced it. The newer one then failed.
            parent = trace.get_current_span(context_of(record.header(TRACEPARENT_HEADER)))
        else:
            parent = opened.process
            parent.add_event("settled")
        with trace.use_span(parent, end_on_exit=False, record_exception=False, set_status_on_exception=False):
            yield

    def outgoing(self, record: Received, topic: str, headers: Headers) -> Headers:
        """The headers of a record that is sent because of ``record``; its send span ends with the outcome."""
        opened = self._open.setdefault(_key(record), _Open(None))
        if opened.send is not None:
            # The broker did not acknowledge the first send, so this is a retry.
            _fail(opened.send, "retried")
            opened.send.end()
        message_id = record.header(CORRELATION_ID_HEADER)
        opened.send = _producer_span(
            self._tracer, topic, self._context(record, opened), None if message_id is None else shown_id(message_id)
        )
        kept = tuple(header for header in headers if header[0] != TRACEPARENT_HEADER)
        return (*kept, (TRACEPARENT_HEADER, traceparent_of(opened.send).encode()))

    def wrote(self, records: Sequence[Received], began_ns: int, table: str) -> None:
        """Add a child span to each record of a written batch, because every record has its own trace.

        Args:
            records: The batch.
            began_ns: Start of the write, Unix time in nanoseconds.
            table: The table's name.
        """
        for record in records:
            span = self._tracer.start_span(
                f"UPSERT {table}",
                context=self._context(record, self._open.get(_key(record))),
                kind=SpanKind.CLIENT,
                start_time=began_ns,
                attributes={
                    "db.system.name": "postgresql",
                    "db.operation.name": "UPSERT",
                    "db.collection.name": table,
                    "db.operation.batch.size": len(records),
                },
            )
            span.end()

    def end(self, record: Received, outcome: Outcome) -> None:
        """A record ended."""
        opened = self._open.pop(_key(record), None)
        if opened is None:
            return
        if opened.send is not None:
            opened.send.end()
        span = opened.process
        if span is None:
            return
        span.set_attribute("nexus.outcome", type(outcome).__name__.lower())
        if isinstance(outcome, DeadLettered):
            _fail(span, outcome.reason.value)
        elif isinstance(outcome, Superseded) and outcome.by is not None:
            # This trace ends here. Link it with the trace of the newer snapshot, which holds all of its turns.
            newer = self._open.get(_key(outcome.by))
            if newer is not None and newer.process is not None:
                span.add_link(newer.process.get_span_context())
                newer.process.add_link(span.get_span_context())
        span.end()

    def drop_all(self) -> None:
        """End all spans after a revocation: the partitions' next owner starts new ones."""
        for opened in self._open.values():
            for span in (opened.send, opened.process):
                if span is not None:
                    span.set_attribute("nexus.outcome", "dropped")
                    span.end()
        self._open.clear()

    @staticmethod
    def _context(record: Received, opened: _Open | None) -> Context:
        if opened is None or opened.process is None:
            return context_of(record.header(TRACEPARENT_HEADER))
        return trace.set_span_in_context(opened.process, Context())


def _key(record: Received) -> tuple[str, int, int]:
    return record.topic, record.partition, record.offset


def _producer_span(tracer: Tracer, topic: str, context: Context | None, message_id: str | None) -> Span:
    attributes: dict[str, str] = {
        "messaging.system": "kafka",
        "messaging.operation.type": "send",
        "messaging.operation.name": "send",
        "messaging.destination.name": topic,
    }
    if message_id is not None:
        attributes["messaging.message.conversation_id"] = message_id
    return tracer.start_span(f"send {topic}", context=context, kind=SpanKind.PRODUCER, attributes=attributes)
