"""The circuit breaker, on a clock that the test advances."""

import logging

import pytest

from nexus_stream.errors import ModelUnavailableError, SpendLimitError
from nexus_stream.extraction.claude.breaker import Breaker


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def breaker(clock) -> Breaker:
    return Breaker(failures=3, open_seconds=15.0, now=clock)


def fail(breaker: Breaker, times: int) -> None:
    for _ in range(times):
        breaker.admit()
        breaker.failed()


def test_failures_in_a_row_open_it_and_the_error_has_the_wait(breaker, clock):
    fail(breaker, 3)
    clock.now += 5
    with pytest.raises(ModelUnavailableError) as caught:
        breaker.admit()
    assert caught.value.retry_after_seconds == 10.0
    assert caught.value.is_general


def test_an_answer_between_failures_keeps_it_closed(breaker):
    fail(breaker, 2)
    breaker.admit()
    breaker.succeeded()
    fail(breaker, 2)
    breaker.admit()
    assert not breaker.is_open


def test_half_open_admits_one_probe(breaker, clock):
    fail(breaker, 3)
    clock.now += 15
    breaker.admit()
    for _ in range(10):
        with pytest.raises(ModelUnavailableError):
            breaker.admit()
    breaker.succeeded()
    breaker.admit()


def test_a_failed_probe_opens_it_again_for_the_whole_time(breaker, clock):
    fail(breaker, 3)
    clock.now += 15
    breaker.admit()
    breaker.failed()
    with pytest.raises(ModelUnavailableError) as caught:
        breaker.check()
    assert caught.value.retry_after_seconds == 15.0


def test_after_a_cancelled_probe_another_probe_is_allowed(breaker, clock):
    fail(breaker, 3)
    clock.now += 15
    breaker.admit()
    breaker.abandoned()
    breaker.admit()


def test_failures_of_calls_under_way_do_not_extend_the_open_time(breaker, clock):
    fail(breaker, 3)
    clock.now += 10
    breaker.failed()
    clock.now += 5
    breaker.admit()


def test_a_spend_limit_holds_calls_at_once_and_is_logged_once(breaker, clock, caplog):
    caplog.set_level(logging.INFO)
    breaker.admit()
    breaker.spend_limit_reached("HTTP 402", 300.0)
    clock.now += 100
    with pytest.raises(SpendLimitError) as caught:
        breaker.admit()
    assert caught.value.retry_after_seconds == 200.0
    # The probe hits the limit again: there is one alert in total, not one for each probe.
    clock.now += 200
    breaker.admit()
    breaker.spend_limit_reached("HTTP 402", 300.0)
    clock.now += 300
    breaker.admit()
    breaker.succeeded()
    breaker.admit()
    events = [(record.getMessage(), record.levelname) for record in caplog.records]
    assert events == [("claude_spend_limit", "ERROR"), ("claude_resumed", "INFO")]
