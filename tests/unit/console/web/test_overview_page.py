"""Dead processes in the overview."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nexus_stream.console.alerts.conditions import Thresholds, alert_conditions
from nexus_stream.console.index.processes import ProcessWriter
from nexus_stream.console.index.read_model import Freshness, ReadModel
from nexus_stream.console.index.topic_record import TopicRecord
from nexus_stream.console.reading.overview import OverviewQueries
from nexus_stream.console.web.access import Identity
from nexus_stream.console.web.pages import Pages
from nexus_stream.console.web.viewing import Viewing
from nexus_stream.contracts.status import ProcessStatus

NOW_MS = 1_760_000_000_000
PAGES = Pages()


@pytest.fixture
def model(tmp_path: Path) -> Iterator[ReadModel]:
    model = ReadModel(tmp_path, "topic", {"status": ProcessWriter("status")})
    yield model
    model.close()


def page(model: ReadModel, state: str, detail: str | None, seconds_ago: int, language: str = "en", **more: Any) -> str:
    """The overview as one line of text, after this report of a sink."""
    at_ms = NOW_MS - seconds_ago * 1000
    status = ProcessStatus(
        process_id="sink-a",
        role="sink",
        version="1",
        host="h",
        pid=1,
        state=state,  # type: ignore[arg-type]
        detail=detail,
        since_ms=at_ms,
        started_at_ms=at_ms,
        updated_at_ms=at_ms,
        **more,
    )
    model.apply_beside("status", [TopicRecord(0, 0, at_ms, b"sink-a", status.model_dump_json().encode())])
    figures = OverviewQueries(model.path).overview(NOW_MS)
    alerts = alert_conditions(figures, Thresholds(), stuck_seconds={}, view_problem=None)
    viewing = Viewing(Identity("operator", "Ana", "t"), language, True, Freshness((), None), NOW_MS, "/")
    html = PAGES.overview(viewing, figures, alerts, whole=False)
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", html))


@pytest.mark.parametrize("seconds_ago", [1, 120])
def test_a_failed_process_is_shown_with_its_error(model: ReadModel, seconds_ago: int) -> None:
    text = page(model, "failed", "Supabase", seconds_ago)
    shown = "1.0 s" if seconds_ago == 1 else "2 min"
    assert f"failed cause: Supabase · last report {shown} ago" in text
    assert f"sink-a: stopped with an error {shown} ago: Supabase" in text
    assert "silent" not in text


@pytest.mark.parametrize(
    ("language", "shown"), [("en", "placeholders instead of ids:"), ("es", "marcadores en lugar de ids:")]
)
def test_ids_that_were_placeholders_are_shown(model: ReadModel, language: str, shown: str) -> None:
    text = page(model, "running", None, 1, language, placeholder_ids={"session_id": 2, "fingerprint": 31})
    assert f"{shown} fingerprint 31, session_id 2" in text


def test_a_process_that_failed_without_detail_is_not_silent(model: ReadModel) -> None:
    text = page(model, "failed", None, 120)
    assert "failed last report 2 min ago" in text
    assert "sink-a: stopped with an error 2 min ago: error" in text


def test_a_silent_process_is_shown_with_the_state_it_was_last_in(model: ReadModel) -> None:
    text = page(model, "waiting", "Supabase", 120)
    assert "silent waiting for Supabase · last report 2 min ago" in text
    assert "sink-a: no report for 2 min" in text


def test_alerts_have_spanish_texts(model: ReadModel) -> None:
    text = page(model, "failed", "Supabase", 120, "es")
    assert "falló causa: Supabase · último informe hace 2 min" in text
    assert "sink-a: se detuvo por un error hace 2 min: Supabase" in text
