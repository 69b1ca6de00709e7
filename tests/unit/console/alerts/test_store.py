from __future__ import annotations

from pathlib import Path

import pytest

from nexus_stream.console.alerts.conditions import Alert, AlertKind
from nexus_stream.console.alerts.store import AlertStore
from nexus_stream.console.alerts.webhook import AlertMessage

FIRING = [Alert(AlertKind.SILENT, "sink-a", 12.5, 0, "x", is_critical=True, since_ms=7), Alert(AlertKind.LAG, "", 1, 0)]
PENDING = [AlertMessage("msg_1", '{"alert": "lag"}', 1.5)]


def test_saved_alerts_are_loaded(tmp_path: Path) -> None:
    AlertStore(tmp_path).save(FIRING, PENDING)
    assert AlertStore(tmp_path).load() == (FIRING, PENDING)
    assert [path.name for path in tmp_path.iterdir()] == ["alerts.json"]


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"null", b'{"firing": [{}], "pending": []}', b'{"firing": [{"kind": "no"}], "pending": []}',
     b'{"firing": [], "pending": [{"id": 1, "other": 2}]}', b'{"firing": [3], "pending": []}'],
)  # fmt: skip
def test_an_unreadable_file_gives_no_alerts(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "alerts.json").write_bytes(content)
    assert AlertStore(tmp_path).load() == ([], [])


def test_a_missing_file_gives_no_alerts(tmp_path: Path) -> None:
    assert AlertStore(tmp_path).load() == ([], [])


def test_a_disk_error_raises_nothing(tmp_path: Path) -> None:
    store = AlertStore(tmp_path / "missing")
    store.save(FIRING, PENDING)
    (tmp_path / "missing").mkdir()
    store.save(FIRING, PENDING)
    assert store.load() == (FIRING, PENDING)
