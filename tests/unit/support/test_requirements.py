"""A missing part skips with its reason, and fails where it is required."""

from __future__ import annotations

import pytest

from tests.support.requirements import require, required_parts


def test_a_part_that_is_there_is_no_obstacle() -> None:
    require("kafka", None, {"NEXUS_REQUIRE": "kafka"})


def test_a_missing_part_skips_and_says_why() -> None:
    with pytest.raises(pytest.skip.Exception, match="kafka is missing: no java"):
        require("kafka", "no java", {"NEXUS_REQUIRE": "node"})


def test_a_missing_part_fails_where_it_is_required() -> None:
    with pytest.raises(pytest.fail.Exception, match="NEXUS_REQUIRE names kafka, which is missing: no java"):
        require("kafka", "no java", {"NEXUS_REQUIRE": "node, kafka"})


def test_an_unknown_part_is_an_error_even_when_all_is_there() -> None:
    with pytest.raises(ValueError, match="kafak"):
        require("kafka", None, {"NEXUS_REQUIRE": "kafak"})


def test_nothing_is_required_by_default() -> None:
    assert required_parts({}) == frozenset()
