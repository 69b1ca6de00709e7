"""The whole way, POST to row, on the embedded broker and on Apache Kafka, its processes started as in production."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import urllib.request
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from aiokafka import AIOKafkaConsumer, ConsumerRecord
from aiokafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from prometheus_client.parser import text_string_to_metric_families

from nexus_stream.contracts.conversation import Limits, decode
from nexus_stream.embedded.broker import EmbeddedBroker
from nexus_stream.embedded.postgres import EmbeddedPostgres
from nexus_stream.errors import DecodeError, Reason
from nexus_stream.kafka.clients import client_options
from tests.bodies import mutated_bodies
from tests.clients import confluent, npm
from tests.kafka.launcher import KafkaCluster, available
from tests.stack import Stack, eventually
from tests.support.prometheus import missing_prometheus
from tests.support.requirements import require

ROOT = Path(__file__).parents[2]
WALK_THROUGH = {
    "messages": [
        {"role": "user", "content": "Hola, me llamo Carlos"},
        {"role": "assistant", "content": "Hola Carlos"},
    ],
    "fingerprint": "test-fp-123",
    "sessionId": "test-session-456",
}


@pytest.fixture(scope="module", params=["embedded", "kafka"])
def stack(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Gateway, enricher and sink on one broker; the tests share it and use sessions of their own."""
    folder = tmp_path_factory.mktemp(f"stack-{request.param}")
    folder.chmod(0o755)
    if request.param == "kafka":
        require("kafka", available())
        broker = KafkaCluster.start(data_dir=folder / "kafka")
    else:
        broker = EmbeddedBroker.start(log_path=folder / "broker.log")
    with broker, EmbeddedPostgres.start(folder / "postgres") as database:
        one = Stack(folder, broker.bootstrap_servers, database.dsn, NEXUS_METRICS_PORT="0")
        try:
            asyncio.run(one.prepare())
            one.start_all()
            yield one
        finally:
            one.stop_all()


async def test_the_walk_through_of_the_existing_system(stack: Stack):
    status, answer = stack.post(WALK_THROUGH)
    assert status == 202
    assert len(answer["messageId"]) == 21
    assert answer["kafka"]["topicName"] == "nexus-prospect-ingestion"
    assert int(answer["kafka"]["offset"]) >= 0
    data = await eventually(lambda: stack.prospect("test-fp-123"), seconds=20, what="the row of test-fp-123")
    assert data["nombre"] == "Carlos"


async def test_turn_by_turn_is_one_row_of_the_newest_snapshot_and_few_calls(stack: Stack):
    turns = [
        {"role": "user", "content": "Hola, me llamo Marcela Ríos"},
        {"role": "assistant", "content": "Encantado. ¿Cómo la contacto?"},
        {"role": "user", "content": "Mi WhatsApp es 300 555 0102 y quiero empezar"},
    ]
    for count in range(1, len(turns) + 1):
        body = {"messages": turns[:count], "sessionId": "turn-by-turn", "fingerprint": "fp-turns"}
        assert stack.post(body, {"x-tenant-id": "acme"})[0] == 202

    async def complete() -> bool:
        rows = await stack.fetch(
            "SELECT prospect_data FROM prospect_tracking WHERE tenant_id = 'acme' AND fingerprint_id = 'fp-turns'"
        )
        return bool(rows) and rows[0]["prospect_data"].get("telefono") == "+573005550102"

    await eventually(complete, seconds=20, what="the phone in the row")
    (row,) = await stack.fetch("SELECT * FROM prospect_tracking WHERE fingerprint_id = 'fp-turns'")
    assert row["prospect_data"]["nombre"] == "Marcela Ríos"
    assert row["prospect_data"]["momento_optimo"] == "caliente"
    sessions = await stack.fetch("SELECT record FROM prospect_sessions WHERE session_id = 'turn-by-turn'")
    assert sessions[0]["record"]["conversation"]["turns"] == 3


async def test_a_kafkajs_producer_as_the_existing_site_uses_it(stack: Stack):
    """Random keys scatter six growing snapshots of ten sessions over the partitions: ten rows, each of the newest."""
    require("node", npm.available())
    script = npm.place(ROOT / "tests/clients/produce_snapshots.mjs", npm.install())
    topic = stack.settings.ingestion_topic
    bootstrap = stack.settings.kafka_bootstrap_servers
    output = await asyncio.to_thread(
        subprocess.run, ["node", str(script), bootstrap, topic], capture_output=True, text=True, timeout=60, check=True
    )
    sessions = [json.loads(line) for line in output.stdout.splitlines()]
    assert len(sessions) == 10

    async def newest_everywhere() -> bool:
        rows = [await stack.prospect(session["fingerprint"]) for session in sessions]
        return all(
            row is not None and (row["nombre"], row["email"]) == (session["nombre"], session["email"])
            for row, session in zip(rows, sessions, strict=True)
        )

    await eventually(newest_everywhere, seconds=40, what="ten rows of the newest snapshots")
    fingerprints = [session["fingerprint"] for session in sessions]
    rows = await stack.fetch("SELECT * FROM prospect_tracking WHERE fingerprint_id = ANY($1)", fingerprints)
    assert len(rows) == 10


async def test_everything_on_the_enriched_topic_fits_the_published_schema(stack: Stack):
    schema = json.loads((ROOT / "contracts" / "enriched-prospect.v1.schema.json").read_text())
    assert stack.post({**WALK_THROUGH, "sessionId": "schema", "fingerprint": "fp-schema"})[0] == 202
    await eventually(lambda: stack.prospect("fp-schema"), seconds=20, what="the row of fp-schema")
    records = await stack.read_topic(stack.settings.enriched_topic)
    assert records
    validator = Draft202012Validator(schema)
    for record in records:
        validator.validate(orjson.loads(record.value))
        assert record.key == orjson.loads(record.value)["session_id"].encode() or b":" in record.key
        assert dict(record.headers)["ce_type"] == b"nexus.prospect.enriched.v1"


@pytest.mark.parametrize("client", ["confluent-kafka", "kafkajs"])
async def test_other_clients_read_what_the_enricher_sent(stack: Stack, client: str):
    """Byte for byte what aiokafka reads, as their own types: text, and headers by name."""
    assert stack.post({**WALK_THROUGH, "sessionId": "clients", "fingerprint": "fp-clients"})[0] == 202
    await eventually(lambda: stack.prospect("fp-clients"), seconds=20, what="the row of fp-clients")
    topic, bootstrap = stack.settings.enriched_topic, stack.settings.kafka_bootstrap_servers
    expected = {
        (record.partition, record.offset): (
            record.key.decode(),
            record.value.decode(),
            {name: value.decode() for name, value in record.headers},
        )
        for record in await stack.read_topic(topic)
    }
    count = str(len(expected))

    if client == "kafkajs":
        require("node", npm.available())
        script = npm.place(ROOT / "tests/clients/consume.mjs", npm.install())
        lines = await asyncio.to_thread(npm.run, script, bootstrap, topic, count)
        found = {
            (line["partition"], int(line["offset"])): (line["key"], line["value"], line["headers"]) for line in lines
        }
    else:
        records = await asyncio.to_thread(confluent.read, bootstrap, topic, int(count))
        found = {(one.partition, one.offset): (one.key, one.value.decode(), dict(one.headers)) for one in records}
    assert found == expected


def _is_session(item: object) -> bool:
    """What the contract accepts as a session: a text or a number. Anything else is refused, and no list has a turn."""
    return item in ("x", 1.5)


def _has_text(item: object) -> bool:
    """What the contract reads as a turn's text: a text, a number, or a list of these."""
    if isinstance(item, list):
        return any(_has_text(one) for one in item)
    return bool(item.strip()) if isinstance(item, str) else isinstance(item, int | float) and not isinstance(item, bool)


def malformed_values() -> list[tuple[bytes | None, Reason]]:
    """Two hundred ways to be no conversation, each made from a good one, with the reason each has to get."""
    good = {"messages": [{"role": "user", "content": "hola"}], "sessionId": "bad"}
    wrong: list[object] = [None, 0, -1, 1.5, True, "x", "", [], {}, [[]], [None], {"a": 1}, "\u0000", 10**400, [1, 2]]
    no_json = [b" ", b"{", b"[", b"}", b"\xff\xfe\x00", b"{'a':1}", b'{"a":"\\ud83d"', b"\xef\xbb\xbf"]
    no_json += [json.dumps(good).encode()[:length] for length in range(1, len(json.dumps(good)))]
    # Deeper than the parser goes.
    no_json += [b"[" * depth + b"]" * depth for depth in (1000, 50_000)]
    shapes: list[object] = [*wrong, [[[[[]]]]]]
    textless: list[object] = []
    for item in wrong:
        textless += [{**good, "messages": item}] if isinstance(item, list) and item else []
        shapes += [{**good, "messages": item}] if not isinstance(item, list) or not item else []
        shapes += [] if _is_session(item) else [{**good, "sessionId": item}]
        for field in ("role", "content"):
            if field == "role" or not _has_text(item):
                textless.append({**good, "messages": [{"role": "user", "content": "hola", field: item}]})
    placeholders = (
        "undefined null None nil NaN true false 0 -1 unknown anonymous guest N/A default fingerprint UNDEFINED"
    )
    placeholders += " sessionId session_id visitor-id {} [] ${sessionId} {{id}} sess-${id} %s <session-id> [id] userId"
    placeholders += (
        " 00000000-0000-0000-0000-000000000000 xxxxxxxx-xxxx-4xxx-yxxx-xxxxxxxxxxxx ()=>id session-undefined"
        " :r0: _r_0_ v-0 Array nullnull d41d8cd98f00b204e9800998ecf8427e anonymousUser"
    )
    shapes += [{**good, "sessionId": word} for word in [*placeholders.split(), "[object Object]", "function () { x }"]]
    shapes += [{**good, "metadata": {"tenant_id": item}} for item in ("a b", "a:b", "ñ", [1], "x" * 65)]
    shapes += [{**good, "metadata": {"consent": item}} for item in ("maybe", [1], {"a": 1}, 7)]
    shapes += [{**good, "sessionId": "s" * size} for size in (257, 5000)]
    values: list[tuple[bytes | None, Reason]] = [(None, Reason.EMPTY), (b"", Reason.EMPTY)]
    values += [(value, Reason.NOT_JSON) for value in no_json]
    values += [
        (value, Reason.WRONG_SHAPE) for value in (b"null", b"NaN", *(json.dumps(one).encode() for one in shapes))
    ]
    values += [(json.dumps(one).encode(), Reason.NO_TEXT) for one in textless]
    values.append((json.dumps({**good, "messages": [{}] * 100_001}).encode(), Reason.TOO_LARGE))
    return values


async def _after_what_was_sent(stack: Stack, values: list[bytes | None], name: str) -> None:
    """Send the values, keyed by their numbers, over all partitions, and wait for the good one behind those of each."""
    good = {**WALK_THROUGH, "sessionId": name, "fingerprint": f"fp-{name}"}
    for partition in range(stack.settings.topic_partitions):
        mine = [
            (f"{name}-{index}".encode(), value)
            for index, value in enumerate(values)
            if index % stack.settings.topic_partitions == partition
        ]
        await stack.produce(stack.settings.ingestion_topic, [*mine, (b"good", orjson.dumps(good))], partition=partition)
    await eventually(lambda: stack.prospect(f"fp-{name}"), seconds=60, what="the good message behind the bad ones")


async def _letters_of(stack: Stack, name: str, count: int) -> dict[bytes, ConsumerRecord]:
    """The dead letters of values that were sent under that name, by key, when there are so many."""

    async def all_letters() -> list[ConsumerRecord]:
        letters = await stack.read_topic(stack.settings.dead_letter_topic)
        mine = [letter for letter in letters if (letter.key or b"").startswith(f"{name}-".encode())]
        return mine if len(mine) >= count else []

    letters = await eventually(all_letters, seconds=60, what=f"{count} dead letters")
    assert len(letters) == count
    return {letter.key: letter for letter in letters}


async def test_every_malformed_value_ends_as_a_dead_letter_and_the_good_one_behind_it_is_processed(stack: Stack):
    bad = malformed_values()
    assert len(bad) >= 200
    await _after_what_was_sent(stack, [value for value, _ in bad], "bad")

    letters = await _letters_of(stack, "bad", len(bad))
    for index, (value, reason) in enumerate(bad):
        letter = letters[f"bad-{index}".encode()]
        headers = dict(letter.headers)
        # An empty value and none at all are the same to some brokers.
        assert (letter.value or None) == (value or None)
        assert headers["nexus-reason"].decode() == reason, value
        assert headers["nexus-origin-topic"] == stack.settings.ingestion_topic.encode()


def generated_values(count: int) -> list[bytes]:
    """Values as Hypothesis thinks them up: bodies with bytes changed or lost, and bytes of any kind."""
    found: list[bytes] = []

    @settings(max_examples=count, deadline=None, database=None, phases=[Phase.generate])
    @given(mutated_bodies() | st.binary(min_size=1, max_size=200))
    def collect(value: bytes) -> None:
        found.append(value)

    collect()
    return found


async def test_generated_values_end_as_the_contract_says_and_never_as_an_error_of_ours(stack: Stack):
    values = generated_values(200)
    assert len(set(values)) >= 120
    expected: dict[bytes, Reason] = {}
    for index, value in enumerate(values):
        try:
            decode(value, Limits())
        except DecodeError as error:
            expected[f"any-{index}".encode()] = error.reason
    assert len(expected) >= 80
    await _after_what_was_sent(stack, [*values], "any")

    letters = await _letters_of(stack, "any", len(expected))
    reasons = {key: Reason(dict(letter.headers)["nexus-reason"].decode()) for key, letter in letters.items()}
    assert reasons == expected
    assert Reason.INTERNAL_ERROR not in reasons.values()


async def test_a_shared_placeholder_joins_nobody(stack: Stack):
    """Two visitors whose page sends the same ``undefined`` are two people."""
    said = {
        "placeholder-1": ("nombre", "Carlos Rojas", "Hola, me llamo Carlos Rojas y mi celular es 300 555 0102"),
        "placeholder-2": ("email", "laura@example.com", "Hola, soy Laura Gomez, mi correo es laura@example.com"),
    }
    for session, (_, _, text) in said.items():
        body = {"messages": [{"role": "user", "content": text}], "sessionId": session, "fingerprint": "undefined"}
        assert stack.post(body)[0] == 202
    for session, (name, value, _) in said.items():
        row = await eventually(
            lambda session=session: stack.prospect(f"session:{session}"), seconds=60, what=f"a row of {session}"
        )
        assert row[name] == value
    assert await stack.prospect("undefined") is None
    refused = {"messages": [{"role": "user", "content": "hola"}], "sessionId": "undefined"}
    status, answer = stack.post(refused)
    assert (status, answer["code"]) == (400, "session_id_placeholder")


async def test_every_form_of_message_becomes_a_row_by_either_way(stack: Stack):
    """Parts, content arrays, system and tool turns, numbers as ids, long histories."""
    text = "Hola, me llamo Marcela Ríos y mi celular es 300 555 0102"
    long = [{"role": "assistant" if n % 2 else "user", "content": f"{n} " + "x" * 9000} for n in range(100)]
    chats: dict[str, dict[str, object]] = {
        "parts": {"messages": [{"id": "m1", "role": "user", "parts": [{"type": "text", "text": text}]}]},
        "array": {"messages": [{"role": "user", "content": [{"type": "text", "text": text}]}]},
        "agent": {
            "messages": [
                {"role": "developer", "content": "Sell plans"},
                {"role": "user", "content": text},
                {"role": "assistant", "content": None, "tool_calls": [{"id": "c", "type": "function"}]},
                {"role": "tool", "tool_call_id": "c", "content": "301 555 0199"},
            ]
        },
        "long": {"messages": [*long, {"role": "user", "content": text}]},
    }
    for name, chat in chats.items():
        for way in ("http", "topic"):
            ids = {"sessionId": f"form-{way}-{name}", "fingerprint": f"fp-form-{way}-{name}"}
            if way == "http":
                assert stack.post({**chat, **ids})[0] == 202, name
            else:
                await stack.produce(stack.settings.ingestion_topic, [(b"form", orjson.dumps({**chat, **ids}))])
    await stack.produce(
        stack.settings.ingestion_topic,
        [(b"form", orjson.dumps({**chats["parts"], "sessionId": 1768478400123, "fingerprint": 1768478400}))],
    )
    fingerprints = [f"fp-form-{way}-{name}" for name in chats for way in ("http", "topic")]
    for fingerprint in [*fingerprints, "1768478400"]:
        row = await eventually(
            lambda fingerprint=fingerprint: stack.prospect(fingerprint), seconds=60, what=f"a row of {fingerprint}"
        )
        assert (row["nombre"], row["telefono"]) == ("Marcela Ríos", "+573005550102")
    facts = {
        row["session_id"]: row["record"]["conversation"]
        for row in await stack.fetch("SELECT session_id, record FROM prospect_sessions WHERE session_id LIKE 'form-%'")
    }
    assert facts["form-http-agent"]["left_out"] == facts["form-topic-agent"]["left_out"] == {"system": 1, "tool": 2}
    for way in ("http", "topic"):
        # The user's 51 turns stay, as far as they fit.
        assert facts[f"form-{way}-long"]["cut"]["turns"] >= 50
    letters = await stack.read_topic(stack.settings.dead_letter_topic)
    assert b"form" not in {letter.key for letter in letters}


async def test_an_answer_that_grows_is_one_extraction(stack: Stack):
    """As a site posts that sends its messages at each render. Then the window slides, and the greeting changes."""
    question = {"role": "user", "content": "Hola, me llamo Marcela Ríos. ¿Qué planes hay?"}
    answer = "Tenemos tres planes. " * 8
    for number in range(20):
        grown = {"role": "assistant", "content": answer + "y más    "[: number % 9] + "y " * 4 * number}
        body = {"messages": [question, grown], "sessionId": "grows", "fingerprint": "fp-grows"}
        assert (await asyncio.to_thread(stack.post, body))[0] == 202
        await asyncio.sleep(0.12)

    async def records() -> list[dict[str, Any]]:
        found = [orjson.loads(one.value) for one in await stack.read_topic(stack.settings.enriched_topic)]
        return [one for one in found if one["session_id"] == "grows"]

    def tells(turns: int) -> Callable[[], Awaitable[bool]]:
        async def probe() -> bool:
            found = await records()
            return bool(found) and found[-1]["conversation"]["turns"] == turns

        return probe

    await eventually(tells(2), seconds=60, what="the record of the last snapshot")
    await asyncio.sleep(3)
    found = await records()
    assert len(found) <= 2
    assert found[-1]["conversation"]["turns"] == 2
    # The greeting and the white space change, and the window loses its first turn: nothing is paid for any of it.
    spaced = {**question, "content": "  Hola,\nme llamo  Marcela Ríos. ¿Qué planes hay?"}
    for greeting in ("Buenos días", "Buenas tardes"):
        messages = [{"role": "assistant", "content": greeting}, spaced, {"role": "assistant", "content": answer}]
        body = {"messages": messages, "sessionId": "grows", "fingerprint": "fp-grows"}
        assert (await asyncio.to_thread(stack.post, body))[0] == 202
    await eventually(tells(3), seconds=60, what="the record with a greeting")
    assert len(await records()) <= len(found) + 2


async def test_half_an_emoji_is_no_reason_to_lose_anybody_by_either_way(stack: Stack):
    """As JSON.stringify writes a text that was cut by length: over HTTP, and from a producer of the site's own."""
    values = {
        name: json.dumps(
            {
                "messages": [{"role": "user", "content": "Hola, me llamo Marcela Ríos \ud83d"}],
                "sessionId": f"half-{name}",
                "fingerprint": f"fp-half-{name}",
            }
        ).encode()
        for name in ("http", "topic")
    }
    assert all(rb"\ud83d" in value for value in values.values())
    assert stack.post(values["http"])[0] == 202
    await stack.produce(stack.settings.ingestion_topic, [(b"half", values["topic"])])
    for name in values:
        row = await eventually(lambda name=name: stack.prospect(f"fp-half-{name}"), seconds=60, what=f"a row by {name}")
        assert row["nombre"] == "Marcela Ríos"
    letters = await stack.read_topic(stack.settings.dead_letter_topic)
    assert b"half" not in {letter.key for letter in letters}


PAGE = (ROOT / "docs" / "reference" / "metrics.md").read_text()
# What a table's row says: the metric and its labels.
DOCUMENTED = {
    name: set(re.findall(r"`(\w+)`", labels))
    for name, labels in re.findall(r"^\| `(nexus_\w+)` \| \w+ \| ([^|]*)\|", PAGE, re.MULTILINE)
}


def scraped(stack: Stack, kind: str) -> str:
    """A process's metrics, as Prometheus gets them."""
    process = stack.processes[kind]
    address = process.url
    if kind == "gateway":
        # On a free port of its own, which it prints.
        (address,) = re.findall(r"metrics on (http://\S+)/metrics", process.log.read_text())
    with urllib.request.urlopen(f"{address}/metrics", timeout=10) as answer:  # noqa: S310 - loopback
        assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
        return str(answer.read().decode())


def samples(text: str) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Every sample by its name and labels."""
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


async def test_metrics_tell_what_happened(stack: Stack):
    """After the traffic of one test, each process's figures are larger by exactly that."""
    kinds = ("gateway", "enricher", "sink")

    async def values() -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
        texts = [await asyncio.to_thread(scraped, stack, kind) for kind in kinds]
        return {key: value for text in texts for key, value in samples(text).items()}

    before = await values()
    for index in range(5):
        body = {**WALK_THROUGH, "sessionId": f"metrics-{index}", "fingerprint": f"fp-metrics-{index}"}
        assert stack.post(body)[0] == 202
    assert stack.post(b"{nope")[0] == 400
    await stack.produce(stack.settings.ingestion_topic, [(b"k", b"no JSON")])
    expected = {
        ("nexus_gateway_requests_total", frozenset({("method", "POST"), ("status", "202")})): 5,
        ("nexus_gateway_requests_total", frozenset({("method", "POST"), ("status", "400")})): 1,
        ("nexus_gateway_request_seconds_count", frozenset({("method", "POST")})): 6,
        ("nexus_gateway_refused_total", frozenset({("code", "body_not_json")})): 1,
        ("nexus_records_total", frozenset({("stage", "enricher"), ("outcome", "enriched")})): 5,
        ("nexus_records_total", frozenset({("stage", "enricher"), ("outcome", "deadlettered")})): 1,
        ("nexus_dead_letters_total", frozenset({("stage", "enricher"), ("reason", "not_json")})): 1,
        ("nexus_done_seconds_count", frozenset({("stage", "enricher")})): 5,
        ("nexus_done_seconds_count", frozenset({("stage", "sink")})): 5,
        ("nexus_records_total", frozenset({("stage", "sink"), ("outcome", "stored")})): 5,
        ("nexus_sink_rows_total", frozenset()): 5,
    }

    async def grown() -> bool:
        after = await values()
        return all(after.get(key, 0) - before.get(key, 0) == increase for key, increase in expected.items())

    await eventually(grown, seconds=60, what=f"the increases {expected}")
    after = await values()
    settled = ("nexus_settle_seconds_count", frozenset[tuple[str, str]]())
    arrived = ("nexus_end_to_end_seconds_count", frozenset[tuple[str, str]]())
    by_process = {kind: samples(await asyncio.to_thread(scraped, stack, kind)) for kind in kinds}
    assert by_process["enricher"][settled] >= 5
    assert by_process["sink"][arrived] >= 5
    # Half a second is what these processes let a chat settle.
    total = by_process["sink"]["nexus_end_to_end_seconds_sum", frozenset[tuple[str, str]]()]
    assert total / by_process["sink"][arrived] > 0.5
    for stage, topic in (("enricher", stack.settings.ingestion_topic), ("sink", stack.settings.enriched_topic)):
        assert after["nexus_process_state", frozenset({("role", stage), ("state", "running")})] == 1
        assert after["nexus_lag_known", frozenset({("stage", stage)})] == 1
        assert after["nexus_rebalances_total", frozenset({("stage", stage)})] >= 1
        assert after["nexus_rebalance_seconds_count", frozenset({("stage", stage)})] >= 1

        async def nothing_waits(stage: str = stage, topic: str = topic) -> bool:
            now = await values()
            labels = [
                frozenset({("stage", stage), ("topic", topic), ("partition", str(number)), ("kind", kind)})
                for number in range(stack.settings.topic_partitions)
                for kind in ("unread", "settling", "overdue")
            ]
            return all(now.get(("nexus_partition_lag_records", label)) == 0 for label in labels)

        # Ends, and committed offsets of partitions that were never read, are asked every two seconds.
        await eventually(nothing_waits, seconds=60, what=f"a lag of 0 on every partition of {topic}")


async def test_every_metric_is_as_its_page_says_and_as_prometheus_asks(stack: Stack):
    require("prometheus", missing_prometheus())
    for kind in ("gateway", "enricher", "sink"):
        text = await asyncio.to_thread(scraped, stack, kind)
        for name, labels in samples(text):
            if name.startswith("nexus_"):
                base = name if name in DOCUMENTED else re.sub(r"_(bucket|sum|count)$", "", name)
                assert {label for label, _ in labels} - {"le"} == DOCUMENTED[base], name
        checked = await asyncio.to_thread(
            subprocess.run, ["promtool", "check", "metrics"], input=text, capture_output=True, text=True, timeout=60
        )
        assert (checked.returncode, checked.stdout + checked.stderr) == (0, "")


async def test_replaying_the_whole_topic_changes_no_row(stack: Stack):
    """The sink's and the enricher's groups go back to the start; the tables stay as they are, to the last timestamp."""
    query = (
        "SELECT md5(coalesce(string_agg(t::text, '|' ORDER BY t::text), '')) AS checksum FROM "
        "(SELECT * FROM prospect_tracking) t"
    )
    assert stack.post({**WALK_THROUGH, "sessionId": "replay", "fingerprint": "fp-replay"})[0] == 202
    await eventually(lambda: stack.prospect("fp-replay"), seconds=20, what="the row of fp-replay")
    await _caught_up(stack)
    (before,) = await stack.fetch(query)
    for kind in ("enricher", "sink"):
        assert stack.processes[kind].stop() == 0
    await _rewind(stack, stack.settings.enricher_app_id, stack.settings.ingestion_topic)
    await _rewind(stack, stack.settings.sink_app_id, stack.settings.enriched_topic)
    stack.start("enricher")
    stack.start("sink")
    for kind in ("enricher", "sink"):
        stack.processes[kind].wait_until_ready()
    await _caught_up(stack)
    (after,) = await stack.fetch(query)
    assert after == before


class _FaustsProtocol(RoundRobinPartitionAssignor):
    """Assigns as it likes, under the name that members of the enricher's group had."""

    name = "faust"


async def _rewind(stack: Stack, group: str, topic: str) -> None:
    """Commit offset 0 as a member of the group: the embedded broker takes commits from nobody else."""
    consumer = AIOKafkaConsumer(
        topic,
        partition_assignment_strategy=[
            _FaustsProtocol if group == stack.settings.enricher_app_id else RoundRobinPartitionAssignor
        ],
        **client_options(stack.settings),
        group_id=group,
        enable_auto_commit=False,
        session_timeout_ms=6000,
        heartbeat_interval_ms=1000,
    )
    try:
        await consumer.start()
        await eventually(_assigned(consumer), seconds=60, what=f"partitions of {topic} for a member of {group}")
        await consumer.commit(dict.fromkeys(consumer.assignment(), 0))
    finally:
        await consumer.stop()


def _assigned(consumer: AIOKafkaConsumer) -> Callable[[], Awaitable[bool]]:
    async def probe() -> bool:
        return bool(consumer.assignment())

    return probe


async def _caught_up(stack: Stack) -> None:
    settings = stack.settings

    async def no_lag() -> bool:
        for group, topic in (
            (settings.enricher_app_id, settings.ingestion_topic),
            (settings.sink_app_id, settings.enriched_topic),
        ):
            ends: dict[int, int] = {}
            for record in await stack.read_topic(topic):
                ends[record.partition] = record.offset + 1
            committed = await stack.committed(group, topic)
            if any(committed.get(partition, 0) < end for partition, end in ends.items()):
                return False
        return True

    await eventually(no_lag, seconds=60, what="both groups have no lag")
