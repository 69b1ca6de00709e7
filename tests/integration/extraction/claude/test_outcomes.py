"""For each kind of answer from Claude: the result of the message, the number of attempts, and the time.

The real SDK and the enricher's own loop run against llmock, or against our stand-in if llmock does not support a case.
``pytest -s -k table`` prints the table of docs/reference/claude.md.
"""

import json
import random
import time
from dataclasses import dataclass, field
from typing import Any

import pytest
from llmock.scenarios import Reply

from nexus_stream.dead_letters.letter import Letter, read_record
from nexus_stream.dead_letters.redriving import redriven_headers
from nexus_stream.extraction.claude.extractor import ClaudeExtractor
from nexus_stream.extraction.extractor import Turn
from nexus_stream.extraction.factory import create_extractor
from nexus_stream.extraction.fallback import Fallback
from nexus_stream.extraction.rules.extractor import OfflineRules
from nexus_stream.settings import load_settings

TURNS = (Turn("assistant", "Hola, ¿con quién hablo?"), Turn("user", "soy Irma del Valle"))
ANSWER = json.dumps(
    {
        "nombre": "Irma del Valle",
        "email": None,
        "telefono": None,
        "ocupacion": None,
        "arquetipo": None,
        "objeciones": [],
        "evidencias": [{"senal": "nombre", "turno": 1, "cita": "Irma del Valle"}],
    }
)
FAST: dict[str, Any] = {
    "settle_seconds": 0.0,
    "batch_max_wait_seconds": 0.0,
    "topic_partitions": 1,
    "claude_requests_per_minute": 600_000,
    "claude_timeout_seconds": 30.0,
    "claude_retry_after_max_seconds": 1.0,
    "claude_breaker_failures": 3,
    "claude_breaker_seconds": 0.5,
    "claude_spend_limit_pause_seconds": 0.5,
}

IMPATIENT = {"claude_timeout_seconds": 0.5}


@dataclass(frozen=True)
class Case:
    """One case. ``play`` has the callables for llmock or, with ``ours``, the handlers for our stand-in."""

    name: str
    play: tuple[Any, ...]
    became: str  # Enriched, a dead letter's reason, or the error that stops the worker
    calls: int
    at_least_seconds: float = 0.0
    at_most_seconds: float = 20.0
    ours: bool = False
    settings: dict[str, Any] = field(default_factory=dict)


def llmock_case(name: str, *play: Any, **facts: Any) -> Case:
    return Case(name, play, **facts)


def our_case(name: str, *play: Any, **facts: Any) -> Case:
    return Case(name, play, ours=True, **facts)


def reply(server: Any) -> None:
    server.reply(ANSWER, times=None)


def limited(seconds: float) -> Any:
    return lambda server: server.fail(429, retry_after=seconds)


def answers(text: str, times: int | None = 1) -> Any:
    return lambda server: server.reply(text, times=times)


def ends_with(finish: str) -> Any:
    return lambda server: server.add(Reply(ANSWER[:40], finish_reason=finish))


THINKING = [{"type": "thinking", "thinking": "{no json}", "signature": "x"}, {"type": "text", "text": ANSWER}]
HUGE = {"input_tokens": 180_000, "output_tokens": 1024}
CASES = [
    llmock_case("answers", reply, became="Enriched", calls=1),
    llmock_case("429, retry-after 0.7 s", limited(0.7), reply, became="Enriched", calls=2, at_least_seconds=0.7),
    llmock_case("429, retry-after an hour", limited(3600), reply, became="Enriched", calls=2, at_least_seconds=1.0),
    llmock_case(
        "529 four times: the breaker opens at three",
        lambda s: s.fail(529, times=4, retry_after=0.1),
        reply,
        became="Enriched",
        calls=5,
        at_least_seconds=1.0,
        at_most_seconds=20,
    ),
    llmock_case("500 once", lambda s: s.fail(500), reply, became="Enriched", calls=2),
    llmock_case(
        "hangs once",
        lambda s: s.delay(1.5),
        reply,
        became="Enriched",
        calls=2,
        at_least_seconds=0.5,
        settings=IMPATIENT,
    ),
    our_case("cut connection", "cut", "answer", became="Enriched", calls=2),
    our_case("truncated body", "truncated", "answer", became="Enriched", calls=2),
    our_case(
        "trickles for ever", "trickling", "answer", became="Enriched", calls=2, at_least_seconds=0.5, settings=IMPATIENT
    ),
    our_case("a proxy's page, HTTP 200", "page", "answer", became="Enriched", calls=2),
    llmock_case("invalid JSON once", answers("Claro, aquí está:"), reply, became="Enriched", calls=2),
    llmock_case("invalid JSON twice", answers(ANSWER[:-9], None), became="model_answer_invalid", calls=2),
    llmock_case("another schema once", answers('{"name": "Irma"}'), reply, became="Enriched", calls=2),
    llmock_case("another schema twice", answers("[]", None), became="model_answer_invalid", calls=2),
    llmock_case("refusal", ends_with("content_filter"), became="model_refused", calls=1),
    llmock_case("max_tokens", ends_with("length"), became="model_truncated", calls=1),
    llmock_case("400 for this conversation", lambda s: s.fail(400), reply, became="model_refused", calls=2),
    llmock_case("401", lambda s: s.fail(401, times=None), became="stops: ConfigurationError", calls=1),
    our_case("spend limit, raised later", "spend", "answer", became="Enriched", calls=2, at_least_seconds=0.5),
    our_case("thinking block first", "thinking", became="Enriched", calls=1),
    our_case("huge usage", "huge", became="Enriched", calls=1),
    llmock_case("a code fence around the answer", answers(f"```json\n{ANSWER}\n```"), became="Enriched", calls=1),
    our_case("no usage, no stop_reason", "bare", became="Enriched", calls=1),
    our_case("empty answer twice", "empty", became="model_answer_invalid", calls=2),
]
RULES = "offline-rules-v1"


@pytest.fixture
async def played(llmock, stand_in, line):
    """Runs one case; returns its result, the calls and the seconds."""
    parts = {
        "answer": stand_in.message(ANSWER),
        "cut": stand_in.cut,
        "truncated": stand_in.truncated,
        "trickling": stand_in.trickling,
        "page": stand_in.raw(b"<html>sign in</html>", content_type="text/html"),
        "spend": stand_in.error(429, "rate_limit_error", code="enforced_spend_limit_reached"),
        "thinking": stand_in.message(content=THINKING),
        "huge": stand_in.message(ANSWER, usage=HUGE),
        "bare": stand_in.raw(json.dumps({"content": [{"type": "text", "text": ANSWER}]}).encode()),
        "empty": stand_in.message(content=[]),
    }
    extractors: list[Fallback] = []

    async def play(case: Case) -> tuple[str, int, float]:
        if case.ours:
            stand_in.script(*(parts[name] for name in case.play))
            url = stand_in.url
        else:
            for step in case.play:
                step(llmock)
            url = llmock.base_url("anthropic")
        settings = load_settings(
            environ={"ANTHROPIC_API_KEY": "sk-test-0000", "ANTHROPIC_BASE_URL": url}, **(FAST | case.settings)
        )
        random.seed(11)  # the jitter between attempts
        extractors.append(Fallback(ClaudeExtractor(settings), OfflineRules(), at_cap=False))
        await line.start(extractors[0], settings)
        started = time.monotonic()
        await line.post(TURNS)
        await line.until_done()
        seconds = time.monotonic() - started
        if line.stopped_by:
            became = f"stops: {type(line.stopped_by[0]).__name__}"
        else:
            (became,) = line.outcomes
            became = line.reasons()[0] if became == "DeadLettered" else became
        return became, len(stand_in.requests if case.ours else llmock.requests), seconds

    yield play
    for extractor in extractors:
        await extractor.close()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
async def test_the_result_of_each_message_table(case, played, line, capsys):
    became, calls, seconds = await played(case)
    made_by = [record["extraction"]["extractor"] for record in line.enriched()]
    print(f"| {case.name} | {became} | {', '.join(made_by) or 'none'} | {calls} | {seconds:.1f} s |")  # visible with -s
    assert became == case.became
    assert calls == case.calls
    assert case.at_least_seconds <= seconds <= case.at_most_seconds
    if line.stopped_by:
        assert line.enriched() == []
        return
    # A row comes of every message that does not stop the worker.
    (record,) = line.enriched()
    assert record["prospect"]["nombre"] == "Irma del Valle"
    extraction = record["extraction"]
    if became == "Enriched":
        assert (extraction["extractor"], extraction["instead_of"]) == ("claude", None)
        assert extraction["cost_usd"] > 0
    else:
        assert (extraction["extractor"], extraction["instead_of"]) == (RULES, became)


async def test_a_refused_chat_has_a_row_and_a_redrive_of_its_letter_replaces_it(stand_in, line):
    turns = (Turn("user", "Hola, me llamo Irma del Valle y mi celular es 300 555 0102"),)
    stand_in.script(stand_in.message(content=[], stop_reason="refusal"), stand_in.message(ANSWER.replace(": 1", ": 0")))
    settings = load_settings(environ={"ANTHROPIC_API_KEY": "sk-test-0000", "ANTHROPIC_BASE_URL": stand_in.url}, **FAST)
    extractor = create_extractor(settings)
    try:
        await line.start(extractor, settings)
        await line.post(turns)
        await line.until_done()
        (record,) = line.enriched()
        assert (record["prospect"]["nombre"], record["prospect"]["telefono"]) == ("Irma del Valle", "+573005550102")
        assert (record["extraction"]["extractor"], record["extraction"]["instead_of"]) == (RULES, "model_refused")

        (sent,) = line.broker.records("nexus-prospect-dlq")
        letter = read_record(0, 0, 1, sent.key, sent.value, sent.headers)
        assert isinstance(letter, Letter)
        await line.post_bytes(letter.value, redriven_headers(letter, 1))
        await line.until_done(2)
        _, record = line.enriched()
        # The model left the phone empty.
        assert (record["prospect"]["nombre"], record["prospect"]["telefono"]) == ("Irma del Valle", None)
        assert (record["extraction"]["extractor"], record["extraction"]["instead_of"]) == ("claude", None)
        assert len(stand_in.requests) == 2
    finally:
        await extractor.close()


async def test_a_huge_usage_has_the_price_of_a_long_prompt(played, line):
    await played(next(case for case in CASES if case.name == "huge usage"))
    (record,) = line.enriched()
    # Five times the price for all tokens: the prompt is over 100,000 tokens.
    assert record["extraction"]["cost_usd"] == pytest.approx(5 * (180_000 * 0.10 + 1024 * 0.50) / 1e6)
