"""``nexus dlq`` as an operator runs it, on a real broker."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from nexus_stream.errors import Reason
from nexus_stream.host.free_ports import free_port
from nexus_stream.observability.logs import hashed

Desk = Any


async def rows(desk: Desk, *words: str) -> list[dict[str, Any]]:
    ended = await desk.nexus("list", "--json", *words)
    assert ended.code == 0, ended.errors
    return [json.loads(line) for line in ended.output.splitlines()]


async def test_list_counts_by_reason_and_hashes_sessions(desk: Desk):
    await desk.write_letter(1)
    await desk.write_letter(2, b"not json", reason=Reason.NOT_JSON)
    await desk.write_letter(3, reason=Reason.MODEL_REFUSED)
    ended = await desk.nexus("list")
    assert ended.code == 0
    assert "3 open" in ended.output
    assert "2  model_refused" in ended.output
    assert "1  not_json" in ended.output
    assert hashed("s-1") in ended.output
    assert "Carlos" not in ended.output
    assert " s-1" not in ended.output


async def test_list_of_an_empty_topic(desk: Desk):
    ended = await desk.nexus("list")
    assert ended.code == 0
    assert "no letters" in ended.output
    assert (await desk.nexus("redrive")).output.splitlines()[0] == "redrive 0 letters"


async def test_filters_choose_letters(desk: Desk):
    one = await desk.write_letter(1, failed_at="2026-01-10T00:00:00Z")
    two = await desk.write_letter(2, reason=Reason.NOT_JSON, failed_at="2026-01-20T00:00:00Z")
    row = await desk.write_letter(3, reason=Reason.ROW_REJECTED, topic=desk.settings.enriched_topic)

    async def ids(*words: str) -> list[str]:
        return [found["id"] for found in await rows(desk, *words)]

    assert await ids() == [one, two, row]
    assert await ids("--reason", "not_json", "--reason", "row_rejected") == [two, row]
    assert await ids("--origin-topic", "enriched") == [row]
    assert await ids("--since", "2026-01-15", "--until", "2026-01-25") == [two]
    assert await ids("--since", "2h") == [row]
    assert await ids("--session", "s-1") == [one]
    assert await ids("--id", one, "--id", row) == [one, row]
    assert await ids("--limit", "2") == [two, row]


async def test_a_wrong_filter_is_refused_instead_of_matching_nothing(desk: Desk):
    for words in (["--reason", "not_jsn"], ["--origin-topic", "other"], ["--since", "soon"]):
        ended = await desk.nexus("redrive", *words)
        assert ended.code == 2, words


async def test_show_redacts_unless_asked_to_reveal(desk: Desk):
    letter = await desk.write_letter(1)
    shown = await desk.nexus("show", letter)
    assert shown.code == 0
    assert "nexus-reason: model_refused" in shown.output
    assert "content: text, 15 characters" in shown.output
    assert "Carlos" not in shown.output
    revealed = await desk.nexus("show", letter, "--reveal")
    assert '"content": "me llamo Carlos"' in revealed.output
    assert (await desk.nexus("show", "no-such-letter")).code == 1


async def test_redrive_sends_the_record_back_as_it_was_received(desk: Desk):
    an_hour_ago = int(time.time() * 1000) - 3_600_000
    headers = (("correlation-id", b"c-9"), ("nexus-hop", b"x"), ("x-raw", b"\xff\x00"))
    letter = await desk.write_letter(1, b'{"x":  1}', key=b"foreign", headers=headers, timestamp_ms=an_hour_ago)
    ended = await desk.nexus("redrive", "--id", letter, "--by", "ana")
    assert ended.code == 0, ended.errors
    (record,) = await desk.ingested()
    assert (record.key, record.value) == (b"foreign", b'{"x":  1}')
    # Apache Kafka stamps the topic's records itself; the embedded broker does not.
    is_stamped_by_broker = record.timestamp_type == 1
    assert is_stamped_by_broker or record.timestamp == an_hour_ago
    assert record.headers == (
        ("correlation-id", b"c-9"),
        ("x-raw", b"\xff\x00"),
        ("nexus-redrive", b"1"),
        ("nexus-redrive-id", letter.encode()),
        ("nexus-origin-timestamp", str(an_hour_ago).encode()),
    )
    (row,) = await rows(desk, "--all-states")
    assert (row["state"], row["redriven"], row["last_by"]) == ("redriven", 1, "ana")


async def test_a_second_redrive_sends_nothing(desk: Desk):
    for offset in range(3):
        await desk.write_letter(offset)
    first = await desk.nexus("redrive", "--yes")
    assert "redriven 3 letters" in first.output
    second = await desk.nexus("redrive", "--yes")
    assert second.code == 0
    assert "redrive 0 letters" in second.output
    assert "skipped: 3 already redriven" in second.output
    assert len(await desk.ingested()) == 3
    assert await rows(desk) == []


async def test_again_sends_again_and_counts(desk: Desk):
    letter = await desk.write_letter(1)
    await desk.nexus("redrive")
    await desk.nexus("redrive", "--again")
    counts = [dict(record.headers)["nexus-redrive"] for record in await desk.ingested()]
    assert counts == [b"1", b"2"]
    (row,) = await rows(desk, "--all-states", "--id", letter)
    assert row["redriven"] == 2


async def test_a_letter_written_twice_is_one_letter(desk: Desk):
    letter = await desk.write_letter(1)
    await desk.write_letter(1)
    (row,) = await rows(desk)
    assert (row["id"], row["copies"]) == (letter, 2)
    await desk.nexus("redrive")
    # The worker's copy may also come after the operator.
    await desk.write_letter(1)
    await desk.nexus("redrive")
    assert len(await desk.ingested()) == 1


async def test_letters_of_a_recreated_topic_are_new_letters(desk: Desk):
    letter = await desk.write_letter(1, b"before")
    await desk.nexus("redrive")
    assert await desk.write_letter(1, b"after") == letter
    await desk.nexus("redrive")
    assert sorted(record.value for record in await desk.ingested()) == [b"after", b"before"]


async def test_dry_run_changes_nothing(desk: Desk):
    await desk.write_letter(1)
    await desk.write_letter(2, reason=Reason.ROW_REJECTED, topic=desk.settings.enriched_topic)
    before = len(await desk.records(desk.settings.dead_letter_topic))
    for verb in ("redrive", "discard"):
        ended = await desk.nexus(verb, "--dry-run")
        assert ended.code == 0
        assert f"would {verb} 2 letters: 1 model_refused, 1 row_rejected" in ended.output
    assert f"1  to {desk.settings.enriched_topic}" in (await desk.nexus("redrive", "--dry-run")).output
    assert await desk.ingested() == []
    assert await desk.records(desk.settings.enriched_topic) == []
    assert len(await desk.records(desk.settings.dead_letter_topic)) == before


async def test_discarded_letters_are_neither_listed_nor_redriven(desk: Desk):
    discarded = await desk.write_letter(1)
    kept = await desk.write_letter(2)
    ended = await desk.nexus("discard", "--id", discarded)
    assert ended.code == 0
    assert "discarded 1 letter" in ended.output
    assert [row["id"] for row in await rows(desk)] == [kept]
    await desk.nexus("redrive", "--again")
    assert [record.key for record in await desk.ingested()] == [b"s-2"]
    assert "discard 0 letters" in (await desk.nexus("discard", "--id", discarded)).output
    # Named by id and with --again: the redrive is intended.
    await desk.nexus("redrive", "--again", "--id", discarded)
    assert sorted(record.key for record in await desk.ingested()) == [b"s-1", b"s-2"]


async def test_sink_letters_go_back_to_the_enriched_topic(desk: Desk):
    headers = (("ce_id", b"7"), ("ce_type", b"nexus.prospect.enriched.v1"))
    topic = desk.settings.enriched_topic
    await desk.write_letter(1, b'{"session_id":"s"}', topic=topic, headers=headers, reason=Reason.ROW_REJECTED)
    await desk.nexus("redrive")
    (record,) = await desk.records(topic)
    assert record.headers[:2] == headers
    assert await desk.ingested() == []


async def test_a_letter_is_never_sent_to_a_topic_that_its_header_names_alone(desk: Desk):
    stranger = f"{desk.settings.topic_prefix}payments"
    await desk.write_letter(1, topic=stranger)
    ours = await desk.write_letter(2)
    ended = await desk.nexus("redrive", "--yes", "--limit", "1")
    assert ended.code == 1
    assert "1 from a topic that is neither" in ended.output
    assert [record.key for record in await desk.ingested()] == [b"s-2"]
    states = {row["id"]: row["state"] for row in await rows(desk, "--all-states")}
    assert states == {f"{stranger}-2-1": "open", ours: "redriven"}


async def test_more_than_one_letter_needs_a_yes(desk: Desk):
    await desk.write_letter(1)
    await desk.write_letter(2)
    for verb in ("redrive", "discard"):
        ended = await desk.nexus(verb)
        assert ended.code == 2
        assert "add --yes" in ended.errors
    assert await desk.ingested() == []
    assert len(await rows(desk)) == 2


@pytest.mark.parametrize(("answer", "sent"), [(b"n\n", 0), (b"y\n", 2)])
async def test_a_terminal_gets_a_confirmation(desk: Desk, answer: bytes, sent: int):
    await desk.write_letter(1)
    await desk.write_letter(2)
    terminal, slave = pty.openpty()
    try:
        os.write(terminal, answer)
        nexus = Path(sys.executable).with_name("nexus")
        process = await asyncio.create_subprocess_exec(
            nexus, "dlq", "redrive", env=desk.environ, stdin=slave, stdout=asyncio.subprocess.PIPE
        )
        async with asyncio.timeout(60):
            output, _ = await process.communicate()
    finally:
        os.close(slave)
        os.close(terminal)
    assert b"Redrive 2 letters? [y/N]" in output
    assert len(await desk.ingested()) == sent


async def test_marks_are_in_the_partition_of_their_letter(desk: Desk):
    """There, retention removes a mark after its letter, never before."""
    await desk.write_letter(1, partition=0)
    await desk.write_letter(2, partition=1)
    await desk.nexus("redrive", "--yes")
    marks = [
        record
        for record in await desk.records(desk.settings.dead_letter_topic)
        if "nexus-marker" in dict(record.headers)
    ]
    places = [(record.partition, dict(record.headers)["nexus-id"][-1:]) for record in marks]
    assert places == [(0, b"1"), (1, b"2")]
    assert all(record.value is None for record in marks)


async def test_order_is_kept_over_many_fetches(desk: Desk):
    """More than one fetch can hold (4 MiB), all with one key and so in one partition."""
    text = "x" * 60_000
    for offset in range(120):
        await desk.write_letter(offset, b'{"n":%d,"text":"%s"}' % (offset, text.encode()), key=b"one")
    ended = await desk.nexus("redrive", "--yes", "--limit", "100")
    assert "redriven 100 letters" in ended.output
    await desk.nexus("redrive", "--yes")
    numbers = [json.loads(record.value)["n"] for record in await desk.ingested()]
    assert numbers == list(range(120))


async def test_foreign_records_are_ignored(desk: Desk):
    await desk.write_letter(1)
    await desk.sender.send(desk.settings.dead_letter_topic, b"k", b"v", partition=0, headers=(("nexus-id", b"x"),))
    ended = await desk.nexus("list")
    assert "1 record(s) of the topic are not dead letters" in ended.output
    await desk.nexus("redrive", "--yes")
    assert len(await desk.ingested()) == 1


async def test_a_missing_topic_is_named_with_the_command_that_makes_it(desk: Desk):
    desk.settings = desk.settings.model_copy(update={"topic_prefix": "nowhere."})
    for words in (["list"], ["redrive"]):
        ended = await desk.nexus(*words)
        assert ended.code == 2
        assert "nexus topics apply" in ended.errors
        assert "Traceback" not in ended.errors


async def test_an_unreachable_broker_is_reported_once(desk: Desk):
    desk.settings = desk.settings.model_copy(update={"kafka_bootstrap_servers": f"127.0.0.1:{free_port()}"})
    for words in (["list"], ["redrive"]):
        ended = await desk.nexus(*words)
        assert ended.code == 1
        assert ended.errors.count("NEXUS_KAFKA_BOOTSTRAP_SERVERS") == 1
        assert len(ended.errors.splitlines()) == 1
