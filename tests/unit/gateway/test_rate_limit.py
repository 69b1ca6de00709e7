"""The token bucket per client."""

import pytest

from nexus_stream.gateway.rate_limit import RateLimiter


class _Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> _Clock:
    return _Clock()


@pytest.mark.parametrize("per_minute", [1, 7, 60, 120, 7000])
def test_a_burst_of_one_minutes_requests_passes_and_the_next_must_wait(clock: _Clock, per_minute: int) -> None:
    limiter = RateLimiter(per_minute, clock=clock)
    assert [limiter.take(b"a") for _ in range(per_minute)] == [0.0] * per_minute
    assert limiter.take(b"a") == pytest.approx(60 / per_minute)


def test_the_returned_wait_is_enough_and_a_shorter_one_is_not(clock: _Clock) -> None:
    limiter = RateLimiter(60, clock=clock)
    for _ in range(60):
        limiter.take(b"a")
    wait = limiter.take(b"a")
    clock.now += wait - 0.01
    assert limiter.take(b"a") > 0
    clock.now += 0.01
    assert limiter.take(b"a") == 0.0


def test_a_refused_request_takes_no_token(clock: _Clock) -> None:
    limiter = RateLimiter(10, clock=clock)
    for _ in range(10):
        limiter.take(b"a")
    waits = {limiter.take(b"a") for _ in range(100)}
    assert len(waits) == 1


def test_clients_do_not_share_a_bucket(clock: _Clock) -> None:
    limiter = RateLimiter(1, clock=clock)
    assert limiter.take(b"a") == 0.0
    assert limiter.take(b"a") > 0
    assert limiter.take(b"b") == 0.0


def test_over_an_hour_the_rate_is_kept(clock: _Clock) -> None:
    limiter = RateLimiter(30, clock=clock)
    passed = 0
    for _ in range(36_000):
        passed += limiter.take(b"a") == 0.0
        clock.now += 0.1
    assert passed == pytest.approx(30 * 60 + 30, abs=1)


def test_memory_is_bounded_while_all_clients_are_busy(clock: _Clock) -> None:
    limiter = RateLimiter(1, max_clients=100, clock=clock)
    for number in range(10_000):
        limiter.take(number.to_bytes(4, "big"))
    assert len(limiter) == 100
    # The newest clients are remembered.
    assert limiter.take((9_999).to_bytes(4, "big")) > 0


def test_clients_that_are_idle_again_are_forgotten(clock: _Clock) -> None:
    limiter = RateLimiter(60, clock=clock)
    for number in range(50):
        limiter.take(number.to_bytes(4, "big"))
    clock.now += 61
    for _ in range(30):
        limiter.take(b"other")
    assert len(limiter) == 1
