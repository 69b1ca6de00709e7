"""What a producer's clock may claim."""

from __future__ import annotations

import pytest

from nexus_stream.kafka.record_time import MAX_AHEAD_MS, received_ms

NOW_MS = 1_796_000_000_000
CREATE_TIME, LOG_APPEND_TIME = 0, 1
TEN_MINUTES_MS = 600_000


@pytest.mark.parametrize(
    "claimed",
    [None, -1, 0, -(2**63), NOW_MS // 1000, NOW_MS * 1000, NOW_MS * 10**6, 2**63 - 1, NOW_MS + 5 * TEN_MINUTES_MS],
)
def test_a_time_that_cannot_be_right_is_the_time_of_reading(claimed: int | None):
    assert received_ms(claimed, CREATE_TIME, NOW_MS) == NOW_MS


@pytest.mark.parametrize("claimed", [NOW_MS, NOW_MS + MAX_AHEAD_MS, NOW_MS - TEN_MINUTES_MS, NOW_MS - 400 * 86_400_000])
def test_a_plausible_time_is_believed(claimed: int):
    assert received_ms(claimed, CREATE_TIME, NOW_MS) == claimed


def test_the_brokers_time_stays_also_if_its_clock_is_ahead():
    assert received_ms(NOW_MS + TEN_MINUTES_MS, LOG_APPEND_TIME, NOW_MS) == NOW_MS + TEN_MINUTES_MS


def test_a_brokers_time_before_this_software_existed_is_not_believed():
    assert received_ms(NOW_MS // 1000, LOG_APPEND_TIME, NOW_MS) == NOW_MS
