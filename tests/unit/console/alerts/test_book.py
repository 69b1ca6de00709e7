from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexus_stream.console.alerts.book import AlertBook, AlertEvent, Timing, timings_of
from nexus_stream.console.alerts.conditions import Alert, AlertKind
from nexus_stream.settings import Settings

FOR_SECONDS, CLEAR_SECONDS = 10.0, 20.0
TIMINGS = dict.fromkeys(AlertKind, Timing(FOR_SECONDS, CLEAR_SECONDS))
LAG = Alert(AlertKind.LAG, "enricher", 500, 100)


class Looks:
    """An alert book and its clock."""

    def __init__(self, book: AlertBook | None = None) -> None:
        self.book = book or AlertBook(TIMINGS)
        self.now = 0.0

    def look(self, after: float, *alerts: Alert, unknown: bool = False) -> list[tuple[str, float]]:
        """The alerts that began and ended, with their times."""
        self.now += after
        events = self.book.observe(alerts, self.now, self.ms, (lambda _: True) if unknown else (lambda _: False))
        return [(event.state, self.now) for event in events]

    @property
    def ms(self) -> int:
        return 1_760_000_000_000 + round(self.now * 1000)


def test_it_begins_after_its_time_and_ends_after_its_time() -> None:
    looks = Looks()
    assert looks.look(0, LAG) == []
    assert looks.look(9.9, LAG) == []
    assert looks.look(0.1, LAG) == [("firing", 10.0)]
    assert looks.look(5, LAG) == []
    assert looks.look(1) == []
    assert looks.look(19.9) == []
    assert [alert.kind for alert in looks.book.firing] == [AlertKind.LAG]
    assert looks.look(0.1) == [("resolved", 36.0)]
    assert looks.book.firing == ()


def test_a_blip_begins_no_alert_and_a_pause_ends_none() -> None:
    looks = Looks()
    for _ in range(20):
        assert looks.look(5, LAG) == []
        assert looks.look(4) == []
    looks.look(1, LAG)
    assert looks.look(10, LAG) == [("firing", looks.now)]
    for _ in range(20):
        assert looks.look(1) == []
        assert looks.look(19) == []
        assert looks.look(0.9, LAG) == []


def test_since_is_when_the_condition_began_and_value_is_the_newest() -> None:
    looks = Looks()
    looks.look(3, LAG)
    began_ms = looks.ms
    looks.look(10, replace(LAG, value=700))
    looks.look(10, replace(LAG, value=900))
    (alert,) = looks.book.firing
    assert (alert.since_ms, alert.value) == (began_ms, 900)
    looks.look(1)
    looks.now += 20
    (event,) = looks.book.observe([], looks.now, looks.ms)
    assert event == AlertEvent("resolved", replace(LAG, value=900, since_ms=began_ms), looks.ms)


def test_the_same_kind_elsewhere_is_another_alert() -> None:
    looks = Looks()
    sink = replace(LAG, where="sink")
    looks.look(0, LAG)
    looks.look(5, LAG, sink)
    assert looks.look(5, LAG, sink) == [("firing", 10.0)]
    assert looks.look(5, LAG, sink) == [("firing", 15.0)]


def test_an_unknown_condition_neither_begins_nor_ends() -> None:
    looks = Looks()
    looks.look(0, LAG)
    looks.look(10, LAG)
    for _ in range(10):
        assert looks.look(10, unknown=True) == []
        assert looks.look(10, LAG, unknown=True) == []
    # The time of absence starts when the condition is known again.
    assert looks.look(10) == []
    assert looks.look(19) == []
    assert looks.look(1) == [("resolved", looks.now)]
    looks.look(0, LAG, unknown=True)
    assert looks.look(100, LAG) == []


def test_an_alert_from_before_a_restart_does_not_begin_again_and_ends() -> None:
    looks = Looks(AlertBook(TIMINGS, [replace(LAG, since_ms=5)]))
    assert looks.look(0, LAG) == []
    assert looks.look(50, LAG) == []
    assert looks.book.firing[0].since_ms == 5
    assert looks.look(1) == []
    assert looks.look(20) == [("resolved", 71.0)]


def test_a_condition_with_its_own_time_begins_at_once() -> None:
    timings = timings_of(Settings(alert_for_seconds=7, alert_clear_seconds=9))
    assert timings[AlertKind.PERSISTENCE] == Timing(7, 9)
    assert timings[AlertKind.NO_PROGRESS] == Timing(0, 9)
    looks = Looks(AlertBook(timings))
    assert looks.look(0, Alert(AlertKind.DEAD_LETTERS, "", 1, 0)) == [("firing", 0.0)]


def test_critical_ones_come_first() -> None:
    book = AlertBook(TIMINGS, [LAG, Alert(AlertKind.SILENT, "sink-a", 60, 0, is_critical=True)])
    assert [alert.kind for alert in book.firing] == [AlertKind.SILENT, AlertKind.LAG]


@given(
    st.lists(
        st.tuples(st.floats(0.1, 15), st.sampled_from(["holds", "gone", "unknown and holds", "unknown and gone"])),
        max_size=200,
    )
)
def test_it_never_flaps_faster_than_its_times(story: list[tuple[float, str]]) -> None:
    looks = Looks()
    events: list[tuple[str, float]] = []
    seen: list[tuple[float, str]] = []
    for after, what in story:
        events += looks.look(after, *([LAG] if "holds" in what else []), unknown="unknown" in what)
        seen.append((looks.now, what))
        assert len(looks.book.firing) == len(events) % 2
    assert [state for state, _ in events] == (["firing", "resolved"] * len(events))[: len(events)]
    for (state, at), (_, next_at) in pairwise(events):
        bound = CLEAR_SECONDS if state == "firing" else FOR_SECONDS
        assert next_at - at >= bound - 1e-6
    for state, at in events:
        # All observations in this time, and one at or before its start, agree.
        bound, said = (FOR_SECONDS, "holds") if state == "firing" else (CLEAR_SECONDS, "gone")
        before = [what for time, what in seen if at - bound + 1e-6 < time <= at]
        assert set(before) == {said}


def test_times_are_those_of_every_kind() -> None:
    assert timings_of(Settings()).keys() == set(AlertKind)


@pytest.mark.parametrize("kind", AlertKind)
def test_nothing_fires_later_than_within_a_minute(kind: AlertKind) -> None:
    # The longest time that the setting allows.
    assert timings_of(Settings(alert_for_seconds=30))[kind].for_seconds <= 30
