"""The wait before a retry: random from 0 to a doubling bound, never below Retry-After."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexus_stream.delivery.backoff import backoff_seconds


@pytest.mark.parametrize(
    ("attempt", "bound"), [(1, 0.5), (2, 1.0), (3, 2.0), (6, 16.0), (7, 30.0), (8, 30.0), (10_000, 30.0)]
)
def test_the_bound_doubles_up_to_the_cap(attempt, bound):
    assert backoff_seconds(attempt, None, random=lambda: 0.0) == 0.0
    assert backoff_seconds(attempt, None, random=lambda: 1.0) == bound
    assert backoff_seconds(attempt, None, random=lambda: 0.5) == bound / 2


def test_retry_after_is_the_least_and_jitter_comes_on_top():
    assert backoff_seconds(1, 12.0, random=lambda: 0.0) == 12.0
    assert backoff_seconds(1, 12.0, random=lambda: 1.0) == 12.5


@given(
    st.integers(-3, 2000),
    st.none() | st.floats(-10, 600),
    st.floats(0, 1, exclude_max=True),
)
def test_it_is_always_a_wait_that_can_be_slept(attempt, retry_after, chance):
    wait = backoff_seconds(attempt, retry_after, random=lambda: chance)
    least = max(0.0, retry_after or 0.0)
    assert least <= wait <= least + 30.0
