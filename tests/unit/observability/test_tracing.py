"""Which variables enable traces, which values are refused, and which headers continue a trace."""

from __future__ import annotations

import sys

import pytest
from opentelemetry import trace

from nexus_stream.errors import ConfigurationError
from nexus_stream.observability.otel_tracing import context_of
from nexus_stream.observability.tracing import start_tracing

ENDPOINT = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}
TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"OTEL_SERVICE_NAME": "site"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": " "},
        {**ENDPOINT, "OTEL_SDK_DISABLED": "TRUE"},
        {**ENDPOINT, "OTEL_TRACES_EXPORTER": "none"},
    ],
)
def test_tracing_is_off_by_default(environ: dict[str, str]) -> None:
    assert start_tracing("gateway", environ) is None


@pytest.mark.parametrize("environ", [ENDPOINT, {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://127.0.0.1:1/v1/traces"}])
async def test_an_endpoint_turns_it_on(environ: dict[str, str]) -> None:
    started = start_tracing("gateway", environ)
    assert started is not None
    await started.close()


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"OTEL_TRACES_EXPORTER": "otlp,zipkin"}, "OTEL_TRACES_EXPORTER: zipkin"),
        ({"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "OTEL_EXPORTER_OTLP_PROTOCOL: grpc"),
    ],
)
def test_an_unsupported_value_is_named(changed: dict[str, str], named: str) -> None:
    with pytest.raises(ConfigurationError, match=named):
        start_tracing("gateway", {**ENDPOINT, **changed})


def test_without_the_extra_the_variables_stop_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "nexus_stream.observability.otel_tracing")
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    with pytest.raises(ConfigurationError, match=r"pip install 'nexus-stream\[otel\]'"):
        start_tracing("gateway", ENDPOINT)


# A later version is read as version 00, as W3C Trace Context tells.
@pytest.mark.parametrize("header", [f"00-{TRACE}-{SPAN}-01".encode(), f"01-{TRACE}-{SPAN}-01-more"])
def test_a_header_continues_its_trace(header: str | bytes) -> None:
    context = trace.get_current_span(context_of(header)).get_span_context()
    assert (f"{context.trace_id:032x}", f"{context.span_id:016x}") == (TRACE, SPAN)
    assert context.is_remote
    assert context.trace_flags.sampled


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-01-more",
        f"00-{TRACE}-{SPAN}-01" + "-" * 600,
        b"\xff\xfe",
        "ana@example.com",
    ],
)
def test_any_other_header_begins_a_trace_of_its_own(header: str | bytes | None) -> None:
    assert not trace.get_current_span(context_of(header)).get_span_context().is_valid
