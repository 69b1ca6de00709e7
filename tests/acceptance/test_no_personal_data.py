"""A thousand conversations through every process at DEBUG, hostile ones among them: none shows in what is not data.

Searched are all logs, all /metrics, every exported span, the status topic, the error texts of dead letters and of the
gateway's answers, for every name, address, number, sentence and id. The topics, the table and the rows are data.
"""

from __future__ import annotations

import asyncio
import json
import socket
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Self

import asyncpg
import pytest
from aiohttp import ClientSession, TCPConnector, web
from aiokafka import AIOKafkaProducer

from nexus_stream.embedded.broker import EmbeddedBroker
from nexus_stream.embedded.postgres import EmbeddedPostgres
from nexus_stream.host.free_ports import free_port
from nexus_stream.kafka.clients import client_options
from tests.otlp import Collector, in_a_thread
from tests.people import Person, found_in, people
from tests.stack import Stack, eventually

# Half a minute; on a machine that others use, more.
pytestmark = pytest.mark.timeout(400)

PEOPLE = 1000
KEY = "sk-test-never-in-a-log"
# Of each hundred people by what happens to them; the others are served well.
REFUSED_BY_CHECK, REFUSED_BY_TRIGGER, DECLINED = 11, 12, 13

# A constraint's DETAIL quotes the whole row, a trigger's own message whatever it likes; and twice the server is busy.
REFUSALS = """
ALTER TABLE prospect_sessions ADD CONSTRAINT no_such_people
    CHECK (record->'conversation'->>'first_url' NOT LIKE '%no-check%');
CREATE SEQUENCE busy;
CREATE FUNCTION refuse_row() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.record->'conversation'->>'first_url' LIKE '%no-trigger%' THEN
        RAISE EXCEPTION 'no quiero a % (%)', NEW.session_id, NEW.record
            USING DETAIL = NEW.record::text, HINT = NEW.session_id;
    END IF;
    IF nextval('busy') < 3 THEN
        RAISE EXCEPTION 'ocupado con %', NEW.record USING ERRCODE = '40001';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER refuse_row BEFORE INSERT OR UPDATE ON prospect_sessions FOR EACH ROW EXECUTE FUNCTION refuse_row();
"""


@dataclass
class EchoingClaude:
    """OUR stand-in for the Messages API that repeats what it was told wherever it can: errors, answers, broken ones."""

    url: str = ""
    kinds: Counter[str] = field(default_factory=Counter)
    _asked: Counter[str] = field(default_factory=Counter)
    _runner: web.AppRunner | None = None

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.router.add_post("/v1/messages", self._handle)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        content = (await request.json())["messages"][0]["content"]
        text = content if isinstance(content, str) else content[0]["text"]
        turns = json.loads(text)
        said = [turn["content"] for turn in turns if turn["role"] == "user"]
        if len(turns) == 1:
            return _message("{}")
        self._asked[said[0]] += 1
        first = self._asked[said[0]] == 1
        kind = sum(map(ord, said[0])) % 20 if first else 99
        if "no-model" in said[0]:
            kind = 100
        self.kinds[str(kind)] += 1
        match kind:
            case 0:
                return _error(500, "api_error", text)
            case 1:
                return _error(529, "overloaded_error", text, {"retry-after": "0.05"})
            case 2:
                assert request.transport is not None
                request.transport.abort()
                return web.Response()
            case 3:
                return web.Response(body=text.encode(), content_type="text/plain")
            case 4:
                return _message(json.dumps({"nombre": [said[0]], said[-1]: said[0]}))
            case 5:
                return _message(said[-1])
            case 6:
                return _message(json.dumps(_answer(said[0], nombre=" ".join(said), telefono=said[-1])))
            case 7 if self.kinds["7"] == 1:
                # Once, with what is no time: a limit holds every call.
                wait = said[0].encode("ascii", "ignore").decode()
                return _error(429, "rate_limit_error", text, {"retry-after": wait})
            case 100:
                return _error(400, "invalid_request_error", text) if first else _message(said[0], "refusal")
        return _message(json.dumps(_answer(said[0])))


def _answer(said: str, **changed: Any) -> dict[str, Any]:
    name = " ".join(said.removeprefix("Hola, me llamo ").split(",")[0].split()[:2])
    answer = {"nombre": name, "email": None, "telefono": None, "ocupacion": None, "arquetipo": None, "objeciones": []}
    return {**answer, "evidencias": [{"senal": "nombre", "turno": 1, "cita": name}], **changed}


def _message(text: str, stop_reason: str = "end_turn") -> web.Response:
    return web.json_response(
        {
            "id": "msg_stand_in",
            "type": "message",
            "role": "assistant",
            "model": "claude-haiku-5-5",
            "content": [{"type": "text", "text": text}],
            "stop_reason": stop_reason,
            "stop_sequence": None,
            "usage": {"input_tokens": 700, "output_tokens": 120},
        }
    )


def _error(status: int, kind: str, text: str, headers: dict[str, str] | None = None) -> web.Response:
    body = {"type": "error", "error": {"type": kind, "message": f"your text was: {text}"}}
    return web.json_response(body, status=status, headers=headers)


@dataclass
class Outside:
    """What was sent and what came back."""

    accepted: dict[int, list[str]] = field(default_factory=dict)
    statuses: Counter[int] = field(default_factory=Counter)
    # Answers other than 202: they go to whoever sent it, and yet quote nothing.
    refusals: list[str] = field(default_factory=list)
    secrets: set[str] = field(default_factory=set)


@pytest.fixture(scope="module")
def parts() -> Iterator[tuple[Collector, EchoingClaude]]:
    collector, claude = Collector(), EchoingClaude()
    with in_a_thread(collector, claude):
        yield collector, claude


@pytest.fixture(scope="module")
def stack(parts: tuple[Collector, EchoingClaude], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """All four processes at DEBUG, in both formats, with traces."""
    collector, claude = parts
    folder = tmp_path_factory.mktemp("personal")
    folder.chmod(0o755)
    with (
        EmbeddedBroker.start(log_path=folder / "broker.txt") as broker,
        EmbeddedPostgres.start(folder / "postgres") as database,
    ):
        one = Stack(
            folder,
            broker.bootstrap_servers,
            database.dsn,
            ANTHROPIC_API_KEY=KEY,
            ANTHROPIC_BASE_URL=claude.url,
            NEXUS_MAX_REQUEST_BYTES="262144",
            NEXUS_CLAUDE_REQUESTS_PER_MINUTE="600000",
            NEXUS_CLAUDE_BREAKER_FAILURES="1000",
            NEXUS_LOG_LEVEL="DEBUG",
            NEXUS_SETTLE_SECONDS="1",
            OTEL_EXPORTER_OTLP_ENDPOINT=collector.url,
            OTEL_BSP_SCHEDULE_DELAY="300",
            OTEL_BSP_MAX_QUEUE_SIZE="50000",
        )

        async def prepare() -> None:
            await one.prepare()
            connection = await asyncpg.connect(database.dsn)
            await connection.execute(REFUSALS)
            await connection.close()

        try:
            asyncio.run(prepare())
            one.start("gateway", NEXUS_LOG_FORMAT="json", NEXUS_METRICS_PORT=str(free_port()))
            one.start("enricher", NEXUS_LOG_FORMAT="json")
            one.start("sink", NEXUS_LOG_FORMAT="console")
            one.start("console", NEXUS_LOG_FORMAT="json", NEXUS_METRICS_PORT=str(free_port()))
            for process in one.processes.values():
                process.wait_until_ready()
            yield one
        finally:
            one.stop_all()


def well_meant(person: Person) -> list[dict[str, Any]]:
    """What the site posts of somebody who is served well, or refused at the end: two snapshots of some."""
    url = {REFUSED_BY_CHECK: "no-check", REFUSED_BY_TRIGGER: "no-trigger"}.get(person.index % 100)
    changed: dict[str, Any] = {} if url is None else {"metadata": {"url": f"https://example.com/{url}/{person.word}"}}
    body = person.body(**changed)
    if person.index % 100 == DECLINED:
        body["messages"] = [
            {"role": "assistant", "content": "hola"},
            {"role": "user", "content": f"no-model {person.word}"},
        ]
        return [body]
    return [person.body(2, **changed), body] if person.index % 4 == 0 else [body]


def hostile(person: Person) -> list[tuple[bytes | dict[str, Any], dict[str, str], str]]:
    """(body, headers, path and query) that should not be accepted, or hold personal data where none belongs."""
    said, path = person.turns[1]["content"], "/api/nexus/producer"
    ascii_name = person.name
    good = person.body()
    turn = {"role": "user", "content": said}
    return [
        (json.dumps(good).encode()[:-9] + said.encode(), {}, path),
        (said.encode(), {}, path),
        (b"\xff\xfe" + said.encode(), {}, path),
        ({**good, "messages": [{"role": ascii_name, "content": said}]}, {}, path),
        ({**good, "messages": [{"role": "user", "content": {said: person.email}}]}, {}, path),
        ({**good, "messages": [{ascii_name: said}]}, {}, path),
        ({**good, "messages": said}, {}, path),
        ({**good, "messages": [turn, said, turn]}, {}, path),
        ({**good, "messages": [{"role": "user", "content": said * 500}]}, {}, path),
        ({**good, "messages": [{"role": "user", "content": said * 9000}]}, {}, path),
        ({**good, "messages": [turn] * 400}, {}, path),
        ({**good, "sessionId": [ascii_name]}, {}, path),
        ({**good, "sessionId": f"{ascii_name}\n{person.email}"}, {}, path),
        ({**good, "sessionId": person.email * 30}, {}, path),
        ({**good, "fingerprint": {"mail": person.email}}, {}, path),
        ({**good, "fingerprint": f"session:{person.phone}"}, {}, path),
        ({**good, "metadata": said}, {}, path),
        ({**good, "metadata": {"consent": said, "tenant_id": ascii_name}}, {}, path),
        ({**good, ascii_name: said, "metadata": {person.email: person.phone}}, {}, path),
        (good, {"x-tenant-id": f"{ascii_name} {person.phone}"}, path),
        (good, {"x-tenant-id": person.word}, path),
        (good, {"x-tenant-id": person.word, "Origin": f"https://{person.word}.example.com"}, path),
        (good, {"x-nexus-server-key": person.word, "x-nexus-visitor-address": person.phone}, path),
        ({**good, "identity": person.email, "identityHash": person.word}, {}, path),
        (
            good,
            {
                "Referer": f"https://example.com/?q={person.email}",
                "User-Agent": ascii_name,
                "X-Forwarded-For": person.phone,
                "X-Request-Id": person.email,
                "Authorization": f"Bearer {person.word}",
                "Cookie": f"who={person.email}",
                "traceparent": f"00-{person.word}-{person.phone}-01",
                "tracestate": f"who={person.word}",
                "baggage": f"mail={person.email}",
                "Origin": f"https://{person.word}.example.com",
            },
            path,
        ),
        (good, {}, f"{path}?mail={person.email}&who={person.word}"),
        (good, {}, f"/{person.word}/{person.email}"),
        (good, {"Content-Type": f"text/{person.word}"}, path),
        (good, {"Content-Encoding": person.word}, path),
    ]


async def post_all(stack: Stack, everyone: list[Person], outside: Outside) -> None:
    base = stack.processes["gateway"].url
    gate = asyncio.Semaphore(30)

    async with ClientSession(connector=TCPConnector(limit=30)) as client:

        async def post(person: Person, body: bytes | dict[str, Any], headers: dict[str, str], path: str) -> None:
            data = body if isinstance(body, bytes) else json.dumps(body, ensure_ascii=person.index % 2 == 0).encode()
            sent = {"Content-Type": "application/json", "traceparent": f"00-{person.index + 1:032x}-{7:016x}-01"}
            async with gate, client.post(base + path, data=data, headers={**sent, **headers}) as answer:
                text = await answer.text()
            outside.statuses[answer.status] += 1
            if answer.status == 202:
                outside.accepted.setdefault(person.index, []).append(json.loads(text)["messageId"])
            else:
                outside.refusals.append(text)

        async def one(person: Person) -> None:
            for body in well_meant(person):
                await post(person, body, {}, "/api/nexus/producer")

        others = [person for person in everyone if person.index % 100 in range(20, 24)]
        await asyncio.gather(*(one(person) for person in everyone if person not in others))
        await asyncio.gather(*(post(person, *sent) for person in others for sent in hostile(person)))
        viewer = everyone[5]
        console = stack.processes["console"].url
        for page in (f"/sessions?q={viewer.email}", f"/api/v1/sessions?q={viewer.word}", f"/{viewer.word}", "/metrics"):
            async with client.get(console + page, headers={"User-Agent": viewer.name}) as answer:
                outside.statuses[answer.status] += 0


def send_no_http(stack: Stack, person: Person) -> None:
    """Bytes that are no HTTP, with a person in them."""
    port = int(stack.processes["gateway"].url.rsplit(":", 1)[1])
    for head in (
        f"{person.name} / HTTP/1.1\r\n\r\n",
        f"POST /{person.word} HTTP/9.9\r\nx: {person.email}\r\n\r\n",
        f"POST / HTTP/1.1\r\n{person.name}\r\n\r\n",
        f"POST /api/nexus/producer HTTP/1.1\r\nHost: x\r\nContent-Length: {person.word}\r\n\r\n",
        f"POST /api/nexus/producer HTTP/1.1\r\nHost: x\r\nCookie: {person.word * 3000}\r\n\r\n",
    ):
        with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
            connection.sendall(head.encode())
            connection.settimeout(2)
            try:
                while connection.recv(4096):
                    pass
            except OSError:
                pass


async def produce_hostile(stack: Stack, some: list[Person]) -> None:
    """Records of producers who write what they like into values, keys and headers of both topics."""
    settings = stack.settings
    producer = AIOKafkaProducer(**client_options(settings), acks="all")
    await producer.start()
    try:
        for person in some:
            good, said = json.dumps(person.body()).encode(), person.turns[1]["content"].encode()
            name, email = person.name.encode(), person.email.encode()
            # As long as a message id, and a UUID by their form.
            like_an_id = f"{person.name[:10]}-{person.phone}".encode()
            like_a_word = f"{person.word}-{person.index:08d}".encode()
            like_a_uuid = f"00000000-0000-0000-0000-57{person.phone}".encode()
            enriched = json.dumps(
                {
                    "schema_version": 1,
                    "session_id": person.session,
                    "prospect": {"nombre": [person.name]},
                    "x": said.decode(),
                }
            ).encode()
            for topic, key, value, headers in (
                (settings.ingestion_topic, email, said, []),
                (settings.ingestion_topic, name, good, [("correlation-id", email), ("producer-version", name)]),
                (settings.ingestion_topic, name, good[:-20], [("correlation-id", name)]),
                (settings.ingestion_topic, person.session.encode(), good, [("correlation-id", like_an_id)]),
                (settings.ingestion_topic, person.session.encode(), good, [("correlation-id", like_a_uuid)]),
                (settings.ingestion_topic, person.session.encode(), said, [("correlation-id", like_a_word)]),
                (settings.ingestion_topic, name, good, [("nexus-hop", said), ("traceparent", email)]),
                (settings.ingestion_topic, name, good, [("nexus-redrive", said), ("nexus-redrive-id", email)]),
                (settings.ingestion_topic, name, good, [("nexus-answer", said)]),
                (settings.ingestion_topic, name, said, [("nexus-command", name)]),
                (settings.ingestion_topic, name, said, [("nexus-command", b"erase")]),
                (settings.ingestion_topic, None, said, [(person.word, said), ("correlation-id", b"\xff" + name)]),
                (settings.enriched_topic, email, said, [("correlation-id", email)]),
                (settings.enriched_topic, email, said, [("correlation-id", like_an_id)]),
                (settings.enriched_topic, email, enriched, [("ce_type", name), ("ce_id", email)]),
                (settings.enriched_topic, email, said, [("ce_type", b"nexus.prospect.erased.v1")]),
                (settings.enriched_topic, None, None, [("correlation-id", email)]),
            ):
                await producer.send(topic, value or b"", key=key, headers=headers)
    finally:
        await producer.stop()


def metrics_of(stack: Stack) -> str:
    """Every page of figures that answers."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    shown = ""
    urls = [process.url for process in stack.processes.values()]
    for url in urls:
        for page in ("/metrics", "/ready", "/live"):
            try:
                with opener.open(url + page, timeout=5) as answer:
                    shown += answer.read().decode()
            except OSError:
                continue
    return shown


@pytest.fixture(scope="module")
def run(stack: Stack, parts: tuple[Collector, EchoingClaude]) -> tuple[Outside, dict[str, str]]:
    """Send everything, wait until all of it has ended, stop the processes; what they wrote, by where it stood."""
    everyone = people(PEOPLE)
    outside = Outside(secrets={KEY, *(secret for person in everyone for secret in person.secrets)})
    asyncio.run(_send(stack, everyone, outside))
    shown = asyncio.run(_read(stack, everyone))
    shown["metrics"] = metrics_of(stack)
    names = [process.log for process in stack.processes.values()]
    stack.stop_all()
    shown |= {log.name: log.read_text(encoding="utf-8", errors="replace") for log in names}
    collector, _ = parts
    shown["spans"] = "\n".join(map(str, [received.span for received in collector.spans]))
    shown["exports"] = b"".join(collector.bodies).decode("latin-1")
    shown["refusals"] = "\n".join(outside.refusals)
    return outside, shown


async def _send(stack: Stack, everyone: list[Person], outside: Outside) -> None:
    await post_all(stack, everyone, outside)
    await asyncio.to_thread(send_no_http, stack, everyone[20])
    await produce_hostile(stack, [person for person in everyone if person.index % 100 == 24])


async def _read(stack: Stack, everyone: list[Person]) -> dict[str, str]:
    served = [person.session for person in everyone if person.index % 100 not in {11, 12, 13, 20, 21, 22, 23, 24}]

    async def all_rows() -> bool:
        rows = await stack.fetch("SELECT session_id FROM prospect_sessions WHERE session_id = ANY($1)", served)
        return len(rows) == len(served)

    await eventually(all_rows, seconds=240, what=f"{len(served)} rows")
    logs = [process.log for process in stack.processes.values()]
    size, quiet_since = 0, time.monotonic()
    while time.monotonic() < quiet_since + 2:
        await asyncio.sleep(0.2)
        if (now := sum(log.stat().st_size for log in logs)) != size:
            size, quiet_since = now, time.monotonic()
    letters = await stack.read_topic(stack.settings.dead_letter_topic)
    status = await stack.read_topic(stack.settings.status_topic)
    ours = ("nexus-id", "nexus-reason", "nexus-error", "nexus-error-class")
    texts = [f"{name}: {value!r}" for letter in letters for name, value in letter.headers if name in ours]
    return {
        "errors of dead letters": "\n".join(texts),
        "status": "\n".join(f"{record.key!r} {record.value!r}" for record in status),
    }


def test_the_search_finds_what_is_there() -> None:
    someone = people(30)[7]
    for secret in someone.secrets:
        for text in (f"a {secret}!", json.dumps([secret.upper()]), repr(secret)):
            assert secret in found_in(text, people(1)[0].secrets + someone.secrets), (secret, text)
    assert found_in("record done", someone.secrets) == []


def test_nothing_of_a_conversation_shows_where_no_data_belongs(
    run: tuple[Outside, dict[str, str]], parts: tuple[Collector, EchoingClaude]
) -> None:
    outside, shown = run
    # It was a real run: every way was taken, and every place has something to search.
    assert outside.statuses[202] > PEOPLE
    assert outside.statuses[400] > 100
    assert {413, 415, 404} <= outside.statuses.keys()
    _, claude = parts
    assert {str(kind) for kind in range(8)} <= claude.kinds.keys()
    for reason in ("wrong_shape", "not_json", "model_refused", "row_rejected"):
        assert reason in shown["errors of dead letters"]
    assert {"gateway.log", "enricher.log", "sink.log", "console.log"} <= shown.keys()
    assert all(shown.values()), [name for name, text in shown.items() if not text]
    assert "database unavailable" in shown["sink.log"]
    leaks = {name: found for name, text in shown.items() if (found := found_in(text, outside.secrets))}
    assert leaks == {}


def test_one_message_id_leads_from_the_post_to_the_row(run: tuple[Outside, dict[str, str]]) -> None:
    outside, shown = run
    for person in people(PEOPLE):
        fate = person.index % 100
        if fate in range(20, 24):
            continue
        *earlier, newest = outside.accepted[person.index]
        for message_id in (*earlier, newest):
            lines = [line for line in shown["gateway.log"].splitlines() if message_id in line]
            assert len(lines) == 1, message_id
        gateway, enricher, sink = (
            _lines_with(newest, shown[name]) for name in ("gateway.log", "enricher.log", "sink.log")
        )
        assert '"event":"message accepted"' in gateway[0]
        if fate == DECLINED:
            assert '"reason": "model_refused"' in enricher[-1]
            # The rules read it.
            assert "outcome=stored" in sink[-1]
            continue
        assert '"outcome":"enriched"' in enricher[-1]
        assert ("row_rejected" if fate in {REFUSED_BY_CHECK, REFUSED_BY_TRIGGER} else "outcome=stored") in sink[-1]
        for message_id in earlier:
            (line,) = _lines_with(message_id, shown["enricher.log"])[-1:]
            assert '"outcome":"superseded"' in line or '"outcome":"enriched"' in line


def _lines_with(needle: str, text: str) -> list[str]:
    return _index(text).get(needle, [])


_INDEXED: dict[int, dict[str, list[str]]] = {}


def _index(text: str) -> dict[str, list[str]]:
    """Lines by the message ids in them."""
    if id(text) not in _INDEXED:
        found: dict[str, list[str]] = {}
        for line in text.splitlines():
            for word in line.replace('"', " ").replace("=", " ").split():
                if len(word) == 21:
                    found.setdefault(word, []).append(line)
        _INDEXED[id(text)] = found
    return _INDEXED[id(text)]
