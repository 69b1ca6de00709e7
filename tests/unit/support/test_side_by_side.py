"""Tests that run at once: who shares a worker, and who has which ports."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.side_by_side import Groups

ROOT = Path(__file__).parents[3]
_CLAIM = "from tests.support.side_by_side import claim_ports; print(*claim_ports(), flush=True); input()"


@pytest.fixture
def group():
    return Groups().of


def test_a_package_that_starts_a_service_stays_together_by_service(group) -> None:
    one = group("tests/integration/supabase/test_writer.py::test_a[embedded]")
    assert one == group("tests/integration/supabase/test_roles.py::test_b[embedded-x]")
    assert one != group("tests/integration/supabase/test_writer.py::test_a[debian-15]")
    assert one != group("tests/integration/supabase/test_carry_offsets.py::test_c")


def test_modules_without_a_service_in_common_may_run_apart(group) -> None:
    one = group("tests/unit/test_settings.py::test_a")
    assert one == group("tests/unit/test_settings.py::test_b[1]")
    assert one != group("tests/unit/test_imports.py::test_a")


def test_chaos_rows_of_a_broker_go_to_two_workers_and_keep_them(group) -> None:
    ids = [f"tests/chaos/test_chaos.py::test_row[kafka-row-{number}]" for number in range(4)]
    first = [group(one) for one in ids]
    assert first[0] == first[2] != first[1] == first[3]
    assert [group(one) for one in ids] == first
    assert group("tests/chaos/test_drill.py::test_a") != group("tests/chaos/test_crash_matrix.py::test_b[naive]")


def test_two_processes_never_have_the_same_ports() -> None:
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", _CLAIM], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    ranges = []
    for process in processes:
        assert process.stdout is not None
        first, last = map(int, process.stdout.readline().split())
        ranges.append(range(first, last + 1))
    for process in processes:
        process.communicate("\n", timeout=30)
    assert all(process.returncode == 0 for process in processes)
    assert not set(ranges[0]) & set(ranges[1])
    assert len(ranges[0]) == len(ranges[1]) == 250
