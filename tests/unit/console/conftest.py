from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from nexus_stream.console.index.read_model import ReadModel
from nexus_stream.console.index.session_row import ChangelogRecord
from nexus_stream.contracts.prospect import ExtractionFacts, Prospect, Signal
from nexus_stream.contracts.session_key import session_key
from tables.session_state import SessionState, encode_state

TOPIC = "nexus-enricher-sessions-changelog"
START_MS = 1_760_000_000_000

MakeRecord = Callable[..., ChangelogRecord]


@pytest.fixture
def model(tmp_path: Path) -> Iterator[ReadModel]:
    model = ReadModel(tmp_path / "console", TOPIC)
    yield model
    model.close()


@pytest.fixture
def make_record() -> MakeRecord:
    """A changelog record as the enricher writes it: the state through the table's own model and encoder."""

    def make(session_id: str, offset: int, *, partition: int = 0, tenant_id: str = "", **state: Any) -> ChangelogRecord:
        prospect = {
            name: state.pop(name) for name in list(state) if name in Prospect.model_fields and state[name] is not None
        }
        last_seen_ms = state.pop("last_seen_ms", START_MS + offset)
        values: dict[str, Any] = {
            "session_id": session_id,
            "tenant_id": tenant_id,
            "turns": 2,
            "digest": "d" * 32,
            "snapshot_at_ms": last_seen_ms,
            "source_partition": partition,
            "source_offset": offset,
            "prospect": Prospect(**prospect),
            "extraction": ExtractionFacts(
                extractor="offline-rules-v1", signals=(Signal(name="nombre", turn=0, start=14, end=20),)
            ),
            "enriched_at": "2026-01-02T03:04:05.678+00:00",
            "first_seen_ms": START_MS,
            "last_seen_ms": last_seen_ms,
        }
        return ChangelogRecord(
            partition=partition,
            offset=offset,
            timestamp_ms=START_MS + offset,
            key=session_key(tenant_id, session_id),
            value=encode_state(SessionState(**(values | state))),
        )

    return make
