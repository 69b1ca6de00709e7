"""The copies that remain and their latest times, which follow from the topics' settings and the erasure."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from nexus_stream.contracts.topics import declared_topics
from nexus_stream.privacy.copies import Copy, remaining_copies
from nexus_stream.privacy.erasing import ErasureResult
from nexus_stream.privacy.people import Person
from nexus_stream.privacy.report import as_dict, reported
from nexus_stream.settings import load_settings

_NOW = datetime(2026, 1, 31, 12, 0, tzinfo=UTC)
_ROOM = timedelta(minutes=10)


def _copies(**settings: Any) -> dict[str, Copy]:
    return {copy.place: copy for copy in remaining_copies(load_settings(environ={}, **settings), _NOW)}


def test_latest_times_with_default_settings():
    copies = _copies()
    assert {place: copy.until for place, copy in copies.items() if place.startswith("topic ")} == {
        # Three days and a segment of a day, and so on.
        "topic nexus-prospect-ingestion": datetime(2026, 2, 4, 12, 10, tzinfo=UTC),
        "topic prospects-enriched": datetime(2026, 2, 8, 12, 10, tzinfo=UTC),
        "topic nexus-prospect-dlq": datetime(2026, 2, 15, 12, 10, tzinfo=UTC),
        "topic nexus-enricher-sessions-changelog": datetime(2026, 2, 1, 12, 10, tzinfo=UTC),
    }
    assert copies["topic prospects-enriched"].as_dict()["until"] == "2026-02-08T12:10:00+00:00"


@pytest.mark.parametrize("hours", [1, 5, 72, 400])
def test_latest_times_follow_the_declared_topics(hours: int):
    settings = load_settings(
        environ={}, ingestion_retention_hours=hours, enriched_retention_hours=hours, dead_letter_retention_hours=hours
    )
    copies = {copy.place: copy for copy in remaining_copies(settings, _NOW)}
    specs = {spec.name: spec.configs for spec in declared_topics(settings)}
    for name in (settings.ingestion_topic, settings.enriched_topic, settings.dead_letter_topic):
        kept_ms = int(specs[name]["retention.ms"]) + int(specs[name]["segment.ms"])
        assert copies[f"topic {name}"].until == _NOW + timedelta(milliseconds=kept_ms) + _ROOM
    lag_ms = int(specs[settings.sessions_changelog_topic]["max.compaction.lag.ms"])
    until = copies[f"topic {settings.sessions_changelog_topic}"].until
    assert until == _NOW + timedelta(milliseconds=lag_ms) + _ROOM


def test_files_of_a_backfill_are_listed_without_a_time(tmp_path: Any):
    copies = _copies(data_dir=tmp_path)
    (copy,) = [copy for place, copy in copies.items() if str(tmp_path / "backfill") in place]
    assert copy.until is None
    assert "conversations and answers" in copy.what
    assert "interrupted run" in copy.note


def test_notes_say_that_later_messages_restart_the_time():
    copies = _copies()
    assert "each new message of the browser" in copies["topic nexus-prospect-ingestion"].note
    assert "new session" in copies["topic prospects-enriched"].note


def test_answers_and_anthropic_are_listed_where_claude_reads():
    offline, claude = _copies(extractor="offline"), _copies(extractor="claude", anthropic_api_key="k" * 20)
    assert "Anthropic" not in offline
    assert claude["Anthropic"].until is None
    settings = load_settings(environ={})
    kept = claude["memory of the enrichers"].until
    assert kept == _NOW + timedelta(seconds=settings.cache_ttl_seconds)


def test_every_place_without_a_time_has_a_note():
    assert all(copy.note for copy in _copies().values() if copy.until is None)


def test_times_of_an_incomplete_erasure_are_marked():
    copies = list(_copies().values())
    done, waiting = ErasureResult("request-1"), ErasureResult("request-2", waiting_for=["1b0f3c6f8a2e"])
    assert "Copies that remain, with the latest time of deletion:" in reported(done, copies)
    assert any("assume that it ends now" in line for line in reported(waiting, copies))
    assert any(line.strip().startswith("2026-02-04T12:10+00:00") for line in reported(done, copies))
    answer = as_dict(Person("", {"s-1"}), waiting, copies, _NOW)
    assert (answer["complete"], answer["copies_counted_from"]) == (False, "2026-01-31T12:00:00+00:00")
