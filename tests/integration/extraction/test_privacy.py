"""200 generated conversations pass the enricher and the real SDK with all loggers at DEBUG: no log line has their text.

The test searches for texts of the conversations and of the API's answers: names, addresses, numbers, trades, sentences
of both sides, session ids and fingerprints, and the key.
"""

import io
import json
import logging
import random
from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from aiohttp import web

from nexus_stream.extraction.extractor import Turn
from nexus_stream.extraction.factory import create_extractor
from nexus_stream.observability.logs import configure_logs
from nexus_stream.settings import load_settings

CONVERSATIONS = 200
KEY = "sk-test-never-in-a-log"
SYLLABLES = ("ba", "ce", "di", "fo", "gu", "ka", "le", "mi", "no", "pu", "ra", "se", "ti", "vo", "xu", "za")


def word(chance: random.Random) -> str:
    return "".join(chance.choice(SYLLABLES) for _ in range(5)).capitalize()


def conversation(index: int) -> tuple[list[Turn], dict[str, Any], list[str]]:
    """Turns, an answer that fits them, and all private texts of the conversation."""
    chance = random.Random(index)  # noqa: S311 - made-up people
    name, place, trade = f"{word(chance)} {word(chance)}", word(chance), f"vendo {word(chance)}"
    email = f"{word(chance)}@example.com".lower()
    phone = f"301555{chance.randrange(10_000):04d}"
    turns = [
        Turn("assistant", f"Bienvenido a {place}, ¿con quién hablo?"),
        Turn("user", f"soy {name}, {trade}"),
        Turn("assistant", "¿Cómo te contacto?"),
        Turn("user", f"{email} o {phone}, quiero empezar en {place}"),
    ]
    answer = {
        "nombre": name,
        "email": email,
        "telefono": phone,
        "ocupacion": trade,
        "arquetipo": None,
        "objeciones": [],
        "evidencias": [{"senal": "intencion", "turno": 3, "cita": "quiero empezar"}],
    }
    secrets = [*name.split(), place, trade.split()[1], email, phone, "quiero empezar", "Bienvenido", "Cómo te contacto"]
    return turns, answer, secrets


@pytest.fixture
def written() -> Iterator[io.StringIO]:
    """The output of all loggers at DEBUG, with the fields of each record; logging is restored afterwards."""
    root = logging.getLogger()
    before = (root.handlers[:], root.level)
    levels = {name: logging.getLogger(name).level for name in root.manager.loggerDict}
    stream = io.StringIO()

    class Everything(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            stream.write(f"{record.name} {record.getMessage()} {record.__dict__}\n")
            if record.exc_info:
                stream.write(logging.Formatter().formatException(record.exc_info))

    console = configure_logs(load_settings(environ={}, log_level="DEBUG", log_format="json"))
    assert isinstance(console, logging.StreamHandler)
    console.setStream(stream)
    root.addHandler(Everything(level=logging.DEBUG))
    root.setLevel(logging.DEBUG)
    for name in list(root.manager.loggerDict):
        logging.getLogger(name).setLevel(logging.DEBUG)
    yield stream
    root.handlers[:], root.level = before
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)
    structlog.reset_defaults()


async def test_no_log_line_has_text_of_a_conversation(stand_in, line, written):
    answers = {}
    secrets: set[str] = {KEY}
    for index in range(CONVERSATIONS):
        turns, answer, its_secrets = conversation(index)
        answers[turns[1].content] = answer
        secrets.update(its_secrets)
    seen: dict[str, int] = {}

    async def api(request: web.Request) -> web.StreamResponse:
        content = (await request.json())["messages"][0]["content"]
        asked = content if isinstance(content, str) else content[0]["text"]
        turns = json.loads(asked)
        if len(turns) == 1:
            return await stand_in.message("{}")(request)  # the harmless question
        said = turns[1]["content"]
        seen[said] = seen.get(said, 0) + 1
        kind = sorted(answers).index(said) % 10
        echo = f"your text was: {asked}"
        fits = stand_in.message(json.dumps(answers[said]))
        if seen[said] > 1 and kind < 5:
            return await fits(request)
        handler = {
            0: stand_in.error(500, "api_error", echo),
            1: stand_in.error(529, "overloaded_error", echo, **{"retry-after": "0.01"}),
            2: stand_in.cut,
            3: stand_in.raw(echo.encode()),
            4: stand_in.message(f'{{"nombre": ["{said}"]}}'),
            5: stand_in.error(400, "invalid_request_error", echo),
            6: stand_in.message(said, stop_reason="refusal"),
            7: stand_in.message(json.dumps({**answers[said], "nombre": said, "telefono": said})),
        }.get(kind, fits)
        return await handler(request)

    stand_in.script(api)
    environ = {"ANTHROPIC_API_KEY": KEY, "ANTHROPIC_BASE_URL": stand_in.url}
    settings = load_settings(
        environ=environ,
        settle_seconds=0.0,
        topic_partitions=1,
        claude_requests_per_minute=600_000,
        claude_breaker_failures=1000,
    )
    extractor = create_extractor(settings)
    await line.start(extractor, settings)
    # The server's own logs hold the requests. The server is not part of the product.
    for name in ("aiohttp.access", "aiohttp.server", "aiohttp.web"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    for index in range(CONVERSATIONS):
        turns, _, _ = conversation(index)
        session, fingerprint = f"session-{index:04d}-private", f"fingerprint-{index:04d}-private"
        secrets.update((session, fingerprint))
        await line.post(turns, session, fingerprint=fingerprint)
    await line.post(
        [Turn("user", "sin metadatos")], "session-odd-private", metadata={"url": "https://example.com/?who=Irma"}
    )
    await line.until_done(CONVERSATIONS + 1, seconds=60)
    await extractor.close()

    shown = written.getvalue()
    assert line.outcomes.count("Enriched") > 150
    assert line.outcomes.count("DeadLettered") >= 30
    # The capture works: our own events are there, down to DEBUG.
    assert "model_answer_invalid" in shown
    lowered = shown.lower()
    assert [secret for secret in sorted(secrets) if secret.lower() in lowered] == []
