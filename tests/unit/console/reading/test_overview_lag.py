"""Lag and age in the overview: by partition, also without readers, and over time."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from nexus_stream.console.index.processes import ProcessWriter
from nexus_stream.console.index.read_model import Freshness, ReadModel
from nexus_stream.console.index.topic_record import TopicRecord
from nexus_stream.console.reading.overview import OverviewQueries
from nexus_stream.console.web.access import Identity
from nexus_stream.console.web.pages import Pages
from nexus_stream.console.web.viewing import Viewing
from nexus_stream.contracts.status import PartitionLag, ProcessStatus
from nexus_stream.kafka.group_offsets import GroupStanding, PartitionStanding

NOW_MS = 1_760_000_000_000


@pytest.fixture
def model(tmp_path: Path) -> Iterator[ReadModel]:
    model = ReadModel(tmp_path, "topic", {"status": ProcessWriter("status")})
    yield model
    model.close()


@pytest.mark.parametrize("language", ["en", "es"])
def test_lag_is_shown_by_partition_if_no_worker_runs(model: ReadModel, language: str) -> None:
    partitions = (PartitionStanding(0, 100, 5100, NOW_MS - 7_200_000), PartitionStanding(1, 0, 0))
    standing = GroupStanding("nexus-enricher", "nexus-prospect-ingestion", partitions)
    overview = OverviewQueries(model.path).overview(NOW_MS, {"enricher": standing, "sink": None})
    assert overview.processes == ()
    assert [(lag.partition, lag.unread) for lag in overview.role("enricher").partitions] == [(0, 5000), (1, 0)]
    viewing = Viewing(Identity("viewer", "Vera"), language, True, Freshness((), None), NOW_MS, "/")
    html = Pages().overview(viewing, overview, [], whole=False)
    assert '<span class="part late" title="nexus-prospect-ingestion 0: 5000 ' in html
    assert "<b>0</b> 5,000 <i>2 h</i>" in html
    assert "<b>1</b> 0</span>" in html


def test_age_of_the_oldest_waiting_is_a_curve(model: ReadModel) -> None:
    bucket_ms = NOW_MS // 10_000 * 10_000
    for offset, (process, seconds) in enumerate([("a", 3.0), ("b", 41.5), ("a", 7.0)]):
        status = ProcessStatus(
            process_id=f"enricher-{process}",
            role="enricher",
            version="1",
            host="h",
            pid=1,
            state="running",
            since_ms=bucket_ms,
            started_at_ms=bucket_ms,
            updated_at_ms=bucket_ms + (10_000 if offset == 2 else 0),
            partitions=(PartitionLag(topic="t", partition=0, unread=1, oldest_age_seconds=seconds),),
        )
        value = json.dumps(status.model_dump()).encode()
        model.apply_beside("status", [TopicRecord(0, offset, NOW_MS, status.process_id.encode(), value)])
    series = OverviewQueries(model.path).series(bucket_ms + 10_000, 1)
    ages = dict(zip(series.times, series.curves["enricher_age_seconds"], strict=True))
    # Of all processes the worst, and each time the newest.
    assert {at: age for at, age in ages.items() if age is not None} == {
        bucket_ms // 1000: 41.5,
        bucket_ms // 1000 + 10: 7.0,
    }
    assert all(age is None for age in series.curves["sink_age_seconds"])
