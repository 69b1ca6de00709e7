"""Claude over HTTP with the real SDK: the request, and the result of each kind of failure.

``llmock`` tests use a server that is not ours. ``stand_in`` tests use our own server for cases that llmock does not
support: it breaks connections only in streams, has no thinking blocks, counts no cached tokens, and always sends its
errors before its replies.
"""

import asyncio
import json
import logging
import time
import traceback

import pytest
from llmock.scenarios import Reply

from nexus_stream.errors import (
    ConfigurationError,
    ModelAnswerError,
    ModelRefusedError,
    ModelUnavailableError,
    Reason,
)
from nexus_stream.extraction.claude.prompt import load_prompt
from nexus_stream.extraction.claude.reply import _note_missing
from nexus_stream.extraction.extractor import Turn
from nexus_stream.extraction.grounding import check

TURNS = (
    Turn("assistant", "Hola, ¿con quién hablo?"),
    Turn("user", 'soy Irma del Valle, quiero empezar "ya"'),
)
ANSWER = json.dumps(
    {
        "nombre": "Irma del Valle",
        "email": None,
        "telefono": None,
        "ocupacion": None,
        "arquetipo": None,
        "objeciones": [],
        "evidencias": [
            {"senal": "nombre", "turno": 1, "cita": "Irma del Valle"},
            {"senal": "intencion", "turno": 1, "cita": "quiero empezar"},
        ],
    }
)
NOT_OUR_SCHEMA = json.dumps({"name": "Irma del Valle"})


@pytest.fixture
def over_llmock(claude, llmock):
    """An extractor that talks to llmock."""
    return lambda **overrides: claude(llmock.base_url("anthropic"), **overrides)


def assert_no_content(error: BaseException) -> None:
    """Check that no form of the error report has text of the conversation."""
    shown = "".join(traceback.format_exception(error)) + repr(error)
    assert "Irma" not in shown
    assert error.__cause__ is None
    assert error.__context__ is None


# --- the request


async def test_the_request_is_one_cached_prompt_and_one_message_of_data(llmock, over_llmock):
    llmock.reply(ANSWER)
    await over_llmock().extract(TURNS)

    assert len(llmock.requests) == 1
    body = llmock.last_request.body
    assert set(body) == {"model", "max_tokens", "system", "messages", "output_config"}
    assert (body["model"], body["max_tokens"]) == ("claude-haiku-5-5", 1024)
    assert body["system"] == [
        {"type": "text", "text": load_prompt().system, "cache_control": {"type": "ephemeral"}},
    ]
    assert body["output_config"] == {
        "effort": "low",
        "format": {"type": "json_schema", "schema": load_prompt().schema},
    }
    [message] = body["messages"]
    assert message["role"] == "user"
    assert json.loads(message["content"]) == [
        {"turn": 0, "role": "assistant", "content": "Hola, ¿con quién hablo?"},
        {"turn": 1, "role": "user", "content": 'soy Irma del Valle, quiero empezar "ya"'},
    ]


async def test_the_prompt_is_the_same_bytes_for_every_conversation(llmock, over_llmock):
    llmock.reply(ANSWER, times=2)
    extractor = over_llmock()
    await extractor.extract(TURNS)
    await extractor.extract((*TURNS, Turn("user", "Irma del Valle otra vez")))
    first, second = (request.body for request in llmock.requests)
    assert first["system"] == second["system"]
    assert first["output_config"] == second["output_config"]


# --- the answer


async def test_an_answer_becomes_findings_with_spans_and_cost(llmock, over_llmock):
    llmock.reply(ANSWER)
    found = await over_llmock().extract(TURNS)

    assert found.nombre == "Irma del Valle"
    spans = {signal.name.value: TURNS[signal.turn].content[signal.start : signal.end] for signal in found.signals}
    assert spans == {"nombre": "Irma del Valle", "intencion": "quiero empezar"}
    assert found.dropped_fields == ()
    assert found.usage.input_tokens > 0
    assert found.usage.output_tokens > 0
    expected_usd = (found.usage.input_tokens * 0.10 + found.usage.output_tokens * 0.50) / 1e6
    assert found.usage.cost_usd == pytest.approx(expected_usd)
    assert found.usage.latency_ms > 0


async def test_a_thinking_block_may_come_first(stand_in, claude):
    content = [
        {"type": "thinking", "thinking": "{not json}", "signature": "x"},
        {"type": "a_kind_of_tomorrow", "text": "{not json}"},
        {"type": "text", "text": ANSWER},
    ]
    stand_in.script(stand_in.message(content=content))
    assert (await claude(stand_in.url).extract(TURNS)).nombre == "Irma del Valle"


async def test_cached_tokens_are_counted_and_priced(stand_in, claude):
    usage = {
        "input_tokens": 300,
        "cache_read_input_tokens": 1500,
        "cache_creation_input_tokens": 40,
        "output_tokens": 150,
    }
    stand_in.script(stand_in.message(ANSWER, usage=usage))
    found = await claude(stand_in.url).extract(TURNS)

    assert (found.usage.input_tokens, found.usage.cache_read_tokens, found.usage.output_tokens) == (340, 1500, 150)
    assert found.usage.cost_usd == pytest.approx((300 * 0.10 + 1500 * 0.01 + 40 * 0.125 + 150 * 0.50) / 1e6)


# --- a proxy between the extractor and Claude


@pytest.mark.parametrize(
    "text",
    [
        f"```json\n{ANSWER}\n```",
        f"```\n{ANSWER}\n```\n",
        f"Here is the JSON:\n\n```json\n{json.dumps(json.loads(ANSWER), indent=2)}\n```\n\nAnything else?",
        f"Claro: {ANSWER}",
    ],
)
async def test_a_code_fence_or_a_sentence_around_the_answer_costs_no_second_request(llmock, over_llmock, text):
    llmock.reply(text)
    assert (await over_llmock().extract(TURNS)).nombre == "Irma del Valle"
    assert len(llmock.requests) == 1


@pytest.mark.parametrize(
    "text",
    [
        f"```json\n{ANSWER}\n```\n```json\n{ANSWER}\n```",
        f"{ANSWER}\n{{}}",
        f"[1] ```json\n{ANSWER}\n```",
        f"[{ANSWER}]",
    ],
)
async def test_of_two_answers_none_is_chosen(llmock, over_llmock, text):
    llmock.reply(text).reply(ANSWER)
    assert (await over_llmock().extract(TURNS)).nombre == "Irma del Valle"
    assert len(llmock.requests) == 2


MISSING = [
    {"stop_reason": "end_turn"},
    {"stop_reason": "end_turn", "usage": None},
    {"stop_reason": "end_turn", "usage": {}},
    {"stop_reason": "end_turn", "usage": {"input_tokens": None, "output_tokens": None}},
    {"usage": {"input_tokens": 300, "output_tokens": 40}},
    {"stop_reason": None, "usage": {"input_tokens": 300, "output_tokens": 40}},
    {},
]


@pytest.mark.parametrize("rest", MISSING)
async def test_a_missing_usage_or_stop_reason_is_unknown_and_the_answer_is_used(stand_in, claude, rest):
    body = json.dumps({"content": [{"type": "text", "text": f"```json\n{ANSWER}\n```"}], **rest}).encode()
    stand_in.script(*[stand_in.raw(body)] * 4)
    extractor = claude(stand_in.url, claude_breaker_failures=1)
    for _ in range(4):
        assert (found := await extractor.extract(TURNS)).nombre == "Irma del Valle"
    has_usage = bool(rest.get("usage")) and rest["usage"]["input_tokens"] is not None
    assert (found.usage.input_tokens == 300) is has_usage
    # Without it the estimate counts: not nothing, and not the most that a call can cost.
    assert 0 < found.usage.input_tokens < 2_000
    assert 0 < found.usage.output_tokens < 1_024
    assert found.usage.cost_usd > 0


async def test_what_is_missing_is_logged_once(stand_in, claude, caplog):
    _note_missing.cache_clear()
    body = json.dumps({"content": [{"type": "text", "text": ANSWER}]}).encode()
    stand_in.script(*[stand_in.raw(body)] * 3)
    extractor = claude(stand_in.url)
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            await extractor.extract(TURNS)
    told = [str(vars(record)) for record in caplog.records if record.getMessage() == "model_reply_incomplete"]
    assert len(told) == 2
    assert sum("usage" in line for line in told) == sum("stop_reason" in line for line in told) == 1


async def test_a_cut_off_answer_without_a_stop_reason_does_not_parse(stand_in, claude):
    cut = json.dumps({"content": [{"type": "text", "text": f"```json\n{ANSWER[:40]}"}]}).encode()
    stand_in.script(stand_in.raw(cut), stand_in.raw(cut))
    with pytest.raises(ModelAnswerError):
        await claude(stand_in.url).extract(TURNS)


async def test_an_answer_that_obeys_an_injection_is_dropped(llmock, over_llmock):
    turns = (Turn("assistant", "Hola, soy Bruno Paz"), Turn("user", "hola"))
    llmock.reply(json.dumps({**json.loads(ANSWER), "nombre": "Bruno Paz", "email": "x@example.com"}))
    found = check(await over_llmock().extract(turns), turns, default_region="CO")
    assert (found.nombre, found.email, found.signals) == (None, None, ())
    assert set(found.dropped_fields) >= {"nombre", "email", "intencion"}


# --- an answer that does not fit the schema: one more request


@pytest.mark.parametrize("bad", ["Claro, aquí está:", ANSWER[:-30], NOT_OUR_SCHEMA, "[]"])
async def test_a_bad_answer_causes_a_second_request_with_its_problems(llmock, over_llmock, bad):
    llmock.reply(bad).reply(ANSWER)
    found = await over_llmock().extract(TURNS)

    assert found.nombre == "Irma del Valle"
    first, second = (request.body for request in llmock.requests)
    [message] = second["messages"]
    assert message["role"] == "user"
    assert message["content"][0]["text"] == first["messages"][0]["content"]
    assert "not accepted" in message["content"][1]["text"]
    # Both calls were paid for.
    assert found.usage.input_tokens > 2 * len(load_prompt().system) / 6


async def test_two_bad_answers_become_a_dead_letter(llmock, over_llmock):
    llmock.reply(NOT_OUR_SCHEMA, times=None)
    with pytest.raises(ModelAnswerError) as caught:
        await over_llmock().extract(TURNS)
    assert caught.value.reason is Reason.MODEL_ANSWER_INVALID
    assert len(llmock.requests) == 2
    assert_no_content(caught.value)


async def test_an_answer_without_text_is_a_bad_answer(stand_in, claude):
    stand_in.script(stand_in.message(content=[]), stand_in.message(ANSWER))
    assert (await claude(stand_in.url).extract(TURNS)).nombre == "Irma del Valle"
    assert len(stand_in.requests) == 2


# --- declined or cut off: a dead letter at once


@pytest.mark.parametrize(
    ("finish", "reason"),
    [
        ("content_filter", Reason.MODEL_REFUSED),  # llmock's name for stop_reason "refusal"
        ("length", Reason.MODEL_TRUNCATED),  # and for "max_tokens"
        ("model_context_window_exceeded", Reason.MODEL_TRUNCATED),
    ],
)
async def test_a_refusal_or_a_cut_answer_is_a_dead_letter_with_its_reason(llmock, over_llmock, finish, reason):
    llmock.add(Reply(ANSWER[:40], finish_reason=finish))
    with pytest.raises(ModelRefusedError) as caught:
        await over_llmock().extract(TURNS)
    assert caught.value.reason is reason
    assert len(llmock.requests) == 1
    assert_no_content(caught.value)


# --- retryable failures: raised at once for the retry loop, no sleep here


@pytest.mark.parametrize(
    ("status", "retry_after", "seconds"),
    [(429, 7, 7.0), (429, 3600, 60.0), (529, 0.25, 0.25), (500, None, None), (503, None, 1.0)],
)
async def test_limits_and_overload_are_retryable_with_a_capped_wait(llmock, over_llmock, status, retry_after, seconds):
    llmock.fail(status, retry_after=retry_after)
    started = time.monotonic()
    with pytest.raises(ModelUnavailableError) as caught:
        await over_llmock().extract(TURNS)
    assert caught.value.retry_after_seconds == seconds  # llmock itself sends 1 s with a 503
    assert len(llmock.requests) == 1
    assert time.monotonic() - started < 5
    assert_no_content(caught.value)


async def test_after_an_overload_the_same_extractor_works(llmock, over_llmock):
    llmock.fail(529).reply(ANSWER)
    extractor = over_llmock()
    with pytest.raises(ModelUnavailableError):
        await extractor.extract(TURNS)
    assert (await extractor.extract(TURNS)).nombre == "Irma del Valle"


async def test_an_overload_at_the_second_question_is_retryable_too(stand_in, claude):
    stand_in.script(stand_in.message(NOT_OUR_SCHEMA), stand_in.error(529, "overloaded_error"))
    with pytest.raises(ModelUnavailableError) as caught:
        await claude(stand_in.url).extract(TURNS)
    assert len(stand_in.requests) == 2
    assert_no_content(caught.value)


async def test_a_hanging_answer_is_retryable_after_the_timeout(llmock, over_llmock):
    llmock.delay(3)
    started = time.monotonic()
    with pytest.raises(ModelUnavailableError) as caught:
        await over_llmock(claude_timeout_seconds=0.3).extract(TURNS)
    assert time.monotonic() - started < 2.9
    assert_no_content(caught.value)


async def test_a_trickling_answer_has_the_same_timeout(stand_in, claude):
    stand_in.script(stand_in.trickling)
    started = time.monotonic()
    with pytest.raises(ModelUnavailableError) as caught:
        await claude(stand_in.url, claude_timeout_seconds=0.4).extract(TURNS)
    assert time.monotonic() - started < 10
    assert_no_content(caught.value)


async def test_a_refused_connection_is_retryable(claude, refusing_url):
    with pytest.raises(ModelUnavailableError) as caught:
        await claude(refusing_url).extract(TURNS)
    assert_no_content(caught.value)


@pytest.mark.parametrize(
    "failure",
    [
        "cut",
        "truncated",
        b"",
        b'{"id": "msg_1", "content": [',
        b"<html>Irma: a proxy's page</html>",
        b'{"content": [], "stop_reason": null, "usage": null}',
    ],
)
async def test_a_broken_off_answer_is_retryable(stand_in, claude, failure):
    stand_in.script(stand_in.raw(failure) if isinstance(failure, bytes) else getattr(stand_in, failure))
    with pytest.raises(ModelUnavailableError) as caught:
        await claude(stand_in.url).extract(TURNS)
    assert len(stand_in.requests) == 1
    assert_no_content(caught.value)


async def test_a_proxys_page_with_status_200_is_retryable(stand_in, claude):
    stand_in.script(stand_in.raw(b"<html>Irma</html>", content_type="text/html"))
    with pytest.raises(ModelUnavailableError):
        await claude(stand_in.url).extract(TURNS)


# --- failures that a person must fix: stop, and dead-letter nothing


@pytest.mark.parametrize(("status", "fix"), [(401, "ANTHROPIC_API_KEY"), (403, "key"), (404, "NEXUS_CLAUDE_MODEL")])
async def test_a_wrong_key_or_model_stops_with_a_fix(llmock, over_llmock, status, fix):
    llmock.fail(status)
    with pytest.raises(ConfigurationError, match=fix) as caught:
        await over_llmock().extract(TURNS)
    assert len(llmock.requests) == 1
    assert_no_content(caught.value)


async def test_a_400_for_any_conversation_stops_with_the_apis_own_words(llmock, over_llmock):
    llmock.fail(400, times=None, message="output_config: this model has no effort.")
    with pytest.raises(ConfigurationError, match="this model has no effort") as caught:
        await over_llmock().extract(TURNS)
    mine, harmless = (request.body["messages"][0]["content"] for request in llmock.requests)
    assert "Irma" in mine
    assert json.loads(harmless) == [{"turn": 0, "role": "user", "content": "Hola"}]
    assert_no_content(caught.value)


@pytest.mark.parametrize("status", [400, 413])
async def test_a_400_for_this_conversation_alone_is_its_dead_letter(llmock, over_llmock, status):
    llmock.fail(status, message="prompt is too long: Irma").reply(ANSWER)
    with pytest.raises(ModelRefusedError) as caught:
        await over_llmock().extract(TURNS)
    assert caught.value.reason is Reason.MODEL_REFUSED
    assert len(llmock.requests) == 2
    assert_no_content(caught.value)


async def test_an_overload_while_finding_out_is_retryable(stand_in, claude):
    stand_in.script(stand_in.error(400, "invalid_request_error"), stand_in.error(529, "overloaded_error"))
    with pytest.raises(ModelUnavailableError):
        await claude(stand_in.url).extract(TURNS)


# --- concurrency and logging


async def test_no_more_calls_at_once_than_configured(stand_in, claude):
    stand_in.script(stand_in.message(ANSWER, delay_seconds=0.1))
    extractor = claude(stand_in.url, claude_concurrency=3)
    await asyncio.gather(*(extractor.extract(TURNS) for _ in range(10)))
    assert stand_in.most_in_flight == 3
    assert len(stand_in.requests) == 10


async def test_a_cancelled_extraction_frees_its_slot(stand_in, claude):
    stand_in.script(stand_in.message(ANSWER, delay_seconds=0.5), stand_in.message(ANSWER))
    extractor = claude(stand_in.url, claude_concurrency=1)
    extraction = asyncio.create_task(extractor.extract(TURNS))
    await asyncio.sleep(0.1)
    extraction.cancel()
    with pytest.raises(asyncio.CancelledError):
        await extraction
    assert (await asyncio.wait_for(extractor.extract(TURNS), 5)).nombre == "Irma del Valle"


async def test_nothing_of_a_conversation_is_logged_at_debug(stand_in, claude, caplog):
    caplog.set_level(logging.DEBUG)  # the root logger: everything that is not held back is captured
    bad = stand_in.message(NOT_OUR_SCHEMA)
    stand_in.script(bad, stand_in.error(500, "api_error", message="Irma"), bad, bad)
    extractor = claude(stand_in.url)
    logging.getLogger("anthropic").setLevel(logging.DEBUG)  # configured after the extractor was made
    for failure in (ModelUnavailableError, ModelAnswerError):
        with pytest.raises(failure):
            await extractor.extract(TURNS)

    shown = "\n".join(f"{record.getMessage()} {record.__dict__}" for record in caplog.records)
    assert "model_answer_invalid" in shown
    for secret in ("Irma", "quiero empezar", "con quién hablo", "sk-test-0000"):
        assert secret not in shown
