"""Optional traces: one trace per message, from the POST to the row, through every process.

The variables ``OTEL_EXPORTER_OTLP_ENDPOINT`` or ``OTEL_TRACES_EXPORTER`` enable them. Requests and record headers carry
a W3C ``traceparent``. otel_tracing.py makes the spans, and needs the extra ``otel``. Without traces OpenTelemetry is
not imported, and a stage makes one comparison with None per record. No span holds personal data: no key, no session
id, no address, no text.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

from nexus_stream.delivery.outcomes import Outcome
from nexus_stream.delivery.received import Received
from nexus_stream.errors import ConfigurationError

if TYPE_CHECKING:
    from nexus_stream.delivery.stage import Observer
    from nexus_stream.observability.otel_tracing import StageTracing, Tracing

__all__ = ["TracedObserver", "start_tracing", "traced"]


_ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
_PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
_EXPORTERS = frozenset({"otlp", "console"})


def start_tracing(role: str, environ: Mapping[str, str] | None = None) -> Tracing | None:
    """Start tracing in this process if the variables enable it; end with `Tracing.close`.

    Args:
        role: The process type; without ``OTEL_SERVICE_NAME`` the service is called ``nexus-<role>``.
        environ: Instead of ``.env`` and the process's environment. The SDK itself reads the exporter's variables
            (headers, timeout, certificate, sampler) from the environment.

    Raises:
        ConfigurationError: the SDK is not installed, or the variables name an unsupported exporter or protocol.
    """
    if environ is None:
        environ = _environment()
    exporters = _wanted_exporters(environ)
    if not exporters:
        return None
    try:
        from nexus_stream.observability.otel_tracing import Tracing
    except ImportError as error:
        raise ConfigurationError(
            "OTEL_EXPORTER_OTLP_ENDPOINT or OTEL_TRACES_EXPORTER enables traces, but the OpenTelemetry SDK is not "
            "installed: pip install 'nexus-stream[otel]', or set OTEL_SDK_DISABLED=true."
        ) from error
    return Tracing.start(role, exporters, environ)


def _wanted_exporters(environ: Mapping[str, str]) -> frozenset[str]:
    if environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return frozenset()
    named = environ.get("OTEL_TRACES_EXPORTER", "").strip().lower()
    if not named:
        named = "otlp" if any(environ.get(name, "").strip() for name in _ENDPOINTS) else "none"
    exporters = frozenset(part.strip() for part in named.split(",")) - {"none", ""}
    if unknown := exporters - _EXPORTERS:
        raise ConfigurationError(
            f"OTEL_TRACES_EXPORTER: {', '.join(sorted(unknown))} is not supported. "
            "Use otlp (over HTTP), console or none."
        )
    protocol = next((environ[name].strip() for name in _PROTOCOLS if environ.get(name, "").strip()), "http/protobuf")
    if "otlp" in exporters and protocol != "http/protobuf":
        raise ConfigurationError(
            f"OTEL_EXPORTER_OTLP_PROTOCOL: {protocol} is not supported. Use http/protobuf (a collector's port 4318)."
        )
    return exporters


def _environment() -> dict[str, str]:
    """The process's environment plus the variables of ``.env``: the SDK reads only the environment."""
    from pathlib import Path

    from dotenv import dotenv_values

    for name, value in dotenv_values(Path(".env")).items():
        if name.startswith("OTEL_") and value:
            os.environ.setdefault(name, value)
    return dict(os.environ)


class TracedObserver:
    """An `Observer` that ends each record's span, then calls another observer.

    Args:
        inner: The other observer.
        tracing: The stage's tracing.
    """

    def __init__(self, inner: Observer, tracing: StageTracing) -> None:
        self._inner = inner
        self._tracing = tracing

    def outcome(self, record: Received, outcome: Outcome) -> None:
        """See `Observer.outcome`."""
        self._tracing.end(record, outcome)
        self._inner.outcome(record, outcome)

    def waiting(self, what: str, since_ms: int | None) -> None:
        """See `Observer.waiting`."""
        self._inner.waiting(what, since_ms)


def traced(observer: Observer, tracing: StageTracing | None) -> Observer:
    """The observer of a stage, with tracing if it is enabled."""
    return observer if tracing is None else TracedObserver(observer, tracing)
