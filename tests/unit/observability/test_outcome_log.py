"""The log line of a finished record: found by message id, with hashed ids, in order, and cheap."""

from __future__ import annotations

import asyncio
import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from nexus_stream.contracts.headers import Headers
from nexus_stream.contracts.message_id import message_id
from nexus_stream.delivery.outcomes import (
    DeadLettered,
    Duplicate,
    Enriched,
    Erased,
    Outcome,
    ReemitCause,
    Reemitted,
    Stored,
    Superseded,
)
from nexus_stream.delivery.received import Received
from nexus_stream.errors import Reason
from nexus_stream.observability import event_lines
from nexus_stream.observability.event_lines import EventHandler, EventLines, hashed, shown_id
from nexus_stream.observability.logs import configure_logs
from nexus_stream.observability.outcome_log import OutcomeLog
from nexus_stream.settings import load_settings

MESSAGE_ID = "V1StGXR8_Z5jdHi6B97FF"
HEADERS: Headers = (("correlation-id", MESSAGE_ID.encode()),)


@pytest.fixture(autouse=True)
def _put_logging_back() -> Iterator[None]:
    root = logging.getLogger()
    before = (root.handlers[:], root.level)
    yield
    root.handlers[:], root.level = before
    for name in ("nexus_stream", "agents", "tables"):
        logging.getLogger(name).setLevel(logging.NOTSET)
    structlog.reset_defaults()


def configured(**settings: Any) -> io.StringIO:
    handler = configure_logs(load_settings(environ={}, **{"log_format": "json", **settings}))
    assert isinstance(handler, EventHandler)
    stream = io.StringIO()
    handler.setStream(stream)
    return stream


def record(offset: int = 7, headers: Headers = HEADERS) -> Received:
    return Received("nexus-prospect-ingestion", 2, offset, 1_700_000_000_000, b"acme:3005550102", b"{}", headers, 1)


def written(outcome: Outcome, one: Received | None = None, **settings: Any) -> list[dict[str, Any]]:
    stream = configured(**settings)
    OutcomeLog("enricher").write(one or record(), outcome)
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_an_enriched_record_is_one_line_with_its_offset_and_message_id() -> None:
    (line,) = written(Enriched("claude", is_cached=True, attempts=2, snapshots=3))
    assert line["event"] == "record done"
    assert (line["topic"], line["partition"], line["offset"]) == ("nexus-prospect-ingestion", 2, 7)
    assert (line["stage"], line["outcome"], line["message_id"]) == ("enricher", "enriched", MESSAGE_ID)
    assert (line["extractor"], line["cached"], line["attempts"], line["snapshots"]) == ("claude", True, 2, 3)
    assert line["session"] == hashed("acme:3005550102")
    assert "3005550102" not in json.dumps(line)
    assert line["level"] == "info"
    assert line["timestamp"].endswith("Z")


def test_a_superseded_snapshot_names_its_replacement() -> None:
    newer = record(8, (("correlation-id", (newer_id := message_id()).encode()),))
    assert written(Superseded(newer))[0]["by"] == newer_id
    assert written(Superseded(record(9, ())))[0]["by"] == 9


def test_a_redriven_letter_shows_the_number_of_the_redrive() -> None:
    assert written(Stored(), record(headers=(("nexus-redrive", b"2"),)))[0]["redrive"] == 2
    assert written(Stored(), record(headers=(("nexus-redrive", b"Irma"),)))[0]["redrive"] == 0


def test_a_dead_letter_is_a_warning_with_its_reason() -> None:
    (line,) = written(DeadLettered(Reason.WRONG_SHAPE))
    assert (line["event"], line["level"], line["reason"]) == ("record dead-lettered", "warning", "wrong_shape")
    assert line["message_id"] == MESSAGE_ID


def test_unusual_logs_ordinary_outcomes_at_debug() -> None:
    for ordinary in (Enriched(), Duplicate(), Stored()):
        assert written(ordinary, log_outcomes="unusual") == []
        (line,) = written(ordinary, log_outcomes="unusual", log_level="DEBUG")
        assert line["level"] == "debug"
    for unusual in (Erased(), Reemitted(ReemitCause.REDELIVERED), DeadLettered(Reason.EMPTY)):
        assert len(written(unusual, log_outcomes="unusual")) == 1


def test_a_higher_level_hides_ordinary_outcomes() -> None:
    assert written(Enriched(), log_level="WARNING") == []
    assert len(written(DeadLettered(Reason.EMPTY), log_level="WARNING")) == 1


def test_readable_lines_in_development() -> None:
    stream = configured(log_format="console")
    OutcomeLog("sink").write(record(), Stored())
    (line,) = stream.getvalue().splitlines()
    assert " [info     ] record done " in line
    assert f"message_id={MESSAGE_ID}" in line
    assert "outcome=stored" in line


@pytest.mark.parametrize(
    "value",
    [
        b"Irma del Valle",
        b"irma@example.com",
        b"3005550102",
        b"",
        b"\xff" * 21,
        b"a" * 22,
        b"a\n" + b"b" * 19,
        # These have the form of a gateway's id, or of a UUID.
        b"irma-valle-3005550102",
        b"Irma_Valle-4-3005550102"[:21],
        b"V1StGXR8_Z5jdHi6B-myT",
        b"00000000-0000-0000-0000-573005550102",
    ],
)
def test_a_correlation_id_that_our_gateway_did_not_make_is_hashed(value: bytes) -> None:
    shown = shown_id(value)
    assert shown == f"hash-{hashed(value)}"


def test_message_ids_are_shown() -> None:
    for shown in (MESSAGE_ID, *(message_id() for _ in range(1000))):
        assert shown_id(shown.encode()) == shown


async def test_lines_are_written_together_and_before_what_follows_them() -> None:
    stream = configured()
    outcomes = OutcomeLog("enricher")
    outcomes.write(record(1), Enriched())
    outcomes.write(record(2), Enriched())
    assert stream.getvalue() == ""
    logging.getLogger("nexus_stream.test").warning("after them")
    shown = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [line.get("offset", line["event"]) for line in shown] == [1, 2, "after them"]
    outcomes.write(record(3), Enriched())
    for _ in range(1000):
        await asyncio.sleep(0.02)
        if '"offset":3' in stream.getvalue():
            return
    pytest.fail("not written in 20 s")


async def test_many_lines_do_not_wait() -> None:
    stream = configured()
    outcomes = OutcomeLog("enricher")
    for offset in range(event_lines._MAX_LINES):
        outcomes.write(record(offset), Stored())
    assert len(stream.getvalue().splitlines()) == event_lines._MAX_LINES


def test_a_closed_stream_fails_no_record() -> None:
    configured().close()
    OutcomeLog("enricher").write(record(), Stored())


def test_without_our_handler_the_logger_gets_the_event(caplog: pytest.LogCaptureFixture) -> None:
    logging.getLogger().handlers[:] = [caplog.handler]
    with caplog.at_level(logging.INFO):
        EventLines("nexus_stream.test").write("record done", {"outcome": "stored"})
    assert caplog.records[0].outcome == "stored"  # type: ignore[attr-defined]
