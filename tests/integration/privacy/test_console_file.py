"""The console's file after an erasure: no data of the person in the file or its side files."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest

from nexus_stream.console.index.read_model import ReadModel
from nexus_stream.console.index.session_row import ChangelogRecord
from nexus_stream.console.reading.queries import SessionFilter, SessionQueries

_EMAIL = "ana.borrar@example.com"


def _record(offset: int, state: dict[str, object] | None) -> ChangelogRecord:
    value = None if state is None else orjson.dumps({"tenant_id": "", "session_id": "s-1", **state})
    return ChangelogRecord(partition=0, offset=offset, timestamp_ms=1_000 + offset, key=b"s-1", value=value)


@pytest.mark.parametrize("after", [{"status": "erased", "last_seen_ms": 5}, None])
def test_nothing_is_found_and_nothing_is_left_in_the_bytes(tmp_path: Path, after: dict[str, object] | None):
    model = ReadModel(tmp_path, "changelog")
    model.bind("cluster", {0: 0}, {0: 1}, 1_000)
    state = {"status": "enriched", "fingerprints": ["fp-secret"], "prospect": {"nombre": "Ana", "email": _EMAIL}}
    model.apply([_record(0, state)])
    queries = SessionQueries(model.path)
    assert len(queries.page(SessionFilter(text=_EMAIL), None, 10).rows) == 1
    assert any(_EMAIL.encode() in path.read_bytes() for path in tmp_path.iterdir())

    model.apply([_record(1, after)])
    model.observe({0: 2}, 2_000)
    for text in (_EMAIL, "fp-secret", "Ana"):
        assert queries.page(SessionFilter(text=text), None, 10).rows == ()
    for path in tmp_path.iterdir():
        data = path.read_bytes()
        assert _EMAIL.encode() not in data, path.name
        assert b"fp-secret" not in data, path.name
    model.close()
