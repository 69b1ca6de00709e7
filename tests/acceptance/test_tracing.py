"""One trace from the POST to the row, across three processes, as a collector receives it over OTLP/HTTP."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from nexus_stream.embedded.broker import EmbeddedBroker
from nexus_stream.embedded.postgres import EmbeddedPostgres
from tests.chaos.claude_stand_in import REFUSED_WORD, ClaudeStandIn
from tests.otlp import Collector, ReceivedSpan, in_a_thread
from tests.stack import Stack, eventually

pytestmark = pytest.mark.timeout(300)

CALLER_TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
CALLER_SPAN = "00f067aa0ba902b7"


@pytest.fixture(scope="module")
def parts() -> Iterator[tuple[Collector, ClaudeStandIn]]:
    """The collector and a stand-in for Claude, in a thread with a loop of their own."""
    collector, claude = Collector(), ClaudeStandIn(latency_seconds=(0.01, 0.05))
    with in_a_thread(collector, claude):
        yield collector, claude


@pytest.fixture(scope="module")
def stack(parts: tuple[Collector, ClaudeStandIn], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    collector, claude = parts
    folder = tmp_path_factory.mktemp("tracing")
    folder.chmod(0o755)
    with (
        EmbeddedBroker.start(log_path=folder / "broker.log") as broker,
        EmbeddedPostgres.start(folder / "postgres") as database,
    ):
        one = Stack(
            folder,
            broker.bootstrap_servers,
            database.dsn,
            ANTHROPIC_API_KEY="sk-test-0000000000000000",
            ANTHROPIC_BASE_URL=claude.url,
            NEXUS_SETTLE_SECONDS="3",
            OTEL_EXPORTER_OTLP_ENDPOINT=collector.url,
            OTEL_BSP_SCHEDULE_DELAY="200",
        )
        try:
            asyncio.run(one.prepare())
            one.start_all()
            yield one
        finally:
            one.stop_all()


def body(session: str, *turns: str) -> dict[str, Any]:
    return {
        "messages": [{"role": "user", "content": turn} for turn in turns],
        "sessionId": session,
        "fingerprint": f"fp-{session}",
    }


async def finished(collector: Collector, trace_id: str, condition: Callable[[list[ReceivedSpan]], bool]) -> None:
    async def probe() -> bool:
        return condition(collector.of_trace(trace_id))

    names = sorted(received.span.name for received in collector.of_trace(trace_id))
    await eventually(probe, seconds=60, what=f"the trace {trace_id}; so far {names}")


def has(*names: str) -> Callable[[list[ReceivedSpan]], bool]:
    return lambda spans: set(names) <= {received.span.name for received in spans}


async def test_one_trace_from_the_post_to_the_row(stack: Stack, parts: tuple[Collector, ClaudeStandIn]) -> None:
    collector, _ = parts
    status, answer = await asyncio.to_thread(
        stack.post,
        body("one-trace", "me llamo Marcela Ríos", "marcela@example.com"),
        {"traceparent": f"00-{CALLER_TRACE}-{CALLER_SPAN}-01", "tracestate": "who=marcela", "baggage": "who=marcela"},
    )
    assert status == 202
    await eventually(lambda: stack.prospect("fp-one-trace"), seconds=60, what="the row")
    ingestion, enriched = stack.settings.ingestion_topic, stack.settings.enriched_topic
    path = (
        ("nexus-gateway", "POST /api/nexus/producer", Span.SPAN_KIND_SERVER),
        ("nexus-gateway", f"send {ingestion}", Span.SPAN_KIND_PRODUCER),
        ("nexus-enricher", f"process {ingestion}", Span.SPAN_KIND_CONSUMER),
        ("nexus-enricher", f"send {enriched}", Span.SPAN_KIND_PRODUCER),
        ("nexus-sink", f"process {enriched}", Span.SPAN_KIND_CONSUMER),
        ("nexus-sink", "UPSERT prospect_sessions", Span.SPAN_KIND_CLIENT),
    )
    await finished(collector, CALLER_TRACE, has(*(name for _, name, _ in path), "chat claude-haiku-5-5"))
    parent = CALLER_SPAN
    for service, name, kind in path:
        found = collector.one(CALLER_TRACE, name)
        assert (found.service, found.span.kind, found.span.parent_span_id.hex()) == (service, kind, parent), name
        assert found.span.end_time_unix_nano >= found.span.start_time_unix_nano
        assert not found.span.trace_state
        parent = found.span.span_id.hex()
    processed = collector.one(CALLER_TRACE, f"process {ingestion}")
    assert processed.attributes["nexus.outcome"] == "enriched"
    assert processed.attributes["messaging.message.conversation_id"] == answer["messageId"]
    assert processed.attributes["messaging.kafka.offset"] == int(answer["kafka"]["offset"])
    assert [event.name for event in processed.span.events] == ["settled"]
    call = collector.one(CALLER_TRACE, "chat claude-haiku-5-5")
    assert call.span.parent_span_id == processed.span.span_id
    assert call.attributes["gen_ai.usage.input_tokens"] == 700
    assert call.attributes["gen_ai.usage.output_tokens"] == 120
    assert call.attributes["nexus.cost_usd"] > 0
    # Nothing of the conversation, its ids or what the caller's headers said.
    exported = b"".join(collector.bodies)
    for said in (b"Marcela", b"marcela", b"one-trace"):
        assert said not in exported


async def test_snapshots_that_were_replaced_end_with_a_link_to_the_newest(
    stack: Stack, parts: tuple[Collector, ClaudeStandIn]
) -> None:
    collector, _ = parts
    ids = [f"{number:032x}" for number in (0xA1, 0xA2, 0xA3)]
    turns = ["hola", "me llamo Ana Gil", "ana@example.com"]
    for count, trace_id in enumerate(ids, start=1):
        headers = {"traceparent": f"00-{trace_id}-{CALLER_SPAN}-01"}
        assert (await asyncio.to_thread(stack.post, body("merged", *turns[:count]), headers))[0] == 202
    name = f"process {stack.settings.ingestion_topic}"
    for trace_id in ids[:2]:
        await finished(collector, trace_id, has(name))
    await finished(collector, ids[2], has(name, "UPSERT prospect_sessions"))
    spans = [collector.one(trace_id, name) for trace_id in ids]
    assert [found.attributes["nexus.outcome"] for found in spans] == ["superseded", "superseded", "enriched"]
    assert [link.span_id for link in spans[0].span.links] == [spans[1].span.span_id]
    assert spans[2].span.span_id in [link.span_id for link in spans[1].span.links]
    assert [link.trace_id.hex() for link in spans[2].span.links] == [ids[1]]


async def test_a_worker_that_was_killed_goes_on_in_the_same_trace(
    stack: Stack, parts: tuple[Collector, ClaudeStandIn]
) -> None:
    collector, claude = parts
    trace_id = f"{0xB1:032x}"
    claude.set_mode("overloaded")
    try:
        headers = {"traceparent": f"00-{trace_id}-{CALLER_SPAN}-01"}
        assert (await asyncio.to_thread(stack.post, body("killed", "me llamo Eva Gil"), headers))[0] == 202
        await finished(collector, trace_id, has("chat claude-haiku-5-5"))
        failed = collector.one(trace_id, "chat claude-haiku-5-5") if len(collector.of_trace(trace_id)) == 3 else None
        assert failed is None or failed.attributes["error.type"]
        stack.processes["enricher"].kill()
    finally:
        claude.set_mode("answer")
    await asyncio.to_thread(lambda: stack.start("enricher").wait_until_ready())
    await eventually(lambda: stack.prospect("fp-killed"), seconds=60, what="the row after the kill")
    await finished(collector, trace_id, has("UPSERT prospect_sessions"))
    processed = collector.one(trace_id, f"process {stack.settings.ingestion_topic}")
    assert processed.attributes["nexus.outcome"] == "enriched"


async def test_a_dead_letter_carries_its_trace(stack: Stack, parts: tuple[Collector, ClaudeStandIn]) -> None:
    collector, _ = parts
    trace_id = f"{0xC1:032x}"
    headers = {"traceparent": f"00-{trace_id}-{CALLER_SPAN}-01"}
    assert (await asyncio.to_thread(stack.post, body("dead", f"tengo {REFUSED_WORD}"), headers))[0] == 202
    topic = stack.settings.dead_letter_topic
    await finished(collector, trace_id, has(f"send {topic}", f"process {stack.settings.ingestion_topic}"))
    processed = collector.one(trace_id, f"process {stack.settings.ingestion_topic}")
    assert processed.attributes["error.type"] == "model_refused"
    (letter,) = [
        record
        for record in await stack.read_topic(topic)
        if trace_id.encode() in dict(record.headers).get("traceparent", b"")
    ]
    sent = collector.one(trace_id, f"send {topic}").span.span_id.hex()
    assert dict(letter.headers)["traceparent"].decode() == f"00-{trace_id}-{sent}-01"


async def test_a_malformed_traceparent_begins_a_trace_of_its_own(
    stack: Stack, parts: tuple[Collector, ClaudeStandIn]
) -> None:
    collector, _ = parts
    for wrong in ("00-" + "0" * 32 + "-" + "1" * 16 + "-01", "ana@example.com", "00-abc-def-01", "ff" + "-" * 53):
        assert (await asyncio.to_thread(stack.post, body("malformed", "hola"), {"traceparent": wrong}))[0] == 202

    async def own_traces() -> bool:
        posts = [found for found in collector.spans if found.span.name.startswith("POST")]
        return len({found.trace_id for found in posts if not found.span.parent_span_id}) == 4

    await eventually(own_traces, seconds=60, what="four traces without a parent")
    assert b"ana@example.com" not in b"".join(collector.bodies)


def test_without_the_variables_nothing_is_traced_nor_imported(tmp_path: Path) -> None:
    code = (
        "import sys; from nexus_stream.observability.tracing import start_tracing; "
        "assert start_tracing('enricher', {}) is None; "
        "off = {'OTEL_EXPORTER_OTLP_ENDPOINT': 'http://x', 'OTEL_SDK_DISABLED': 'true'}; "
        "assert start_tracing('sink', off) is None; "
        "assert 'opentelemetry' not in sys.modules, 'imported'"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path, timeout=60)
