from __future__ import annotations

import asyncio
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from nexus_stream.console.web import audit
from nexus_stream.console.web.audit import FAILED_LOGINS_FILE_NAME, FILE_NAME, LOGIN_FAILED, AuditLog


def test_failed_logins_do_not_hide_other_actions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "_MAX_FILE_BYTES", 2000)
    log = AuditLog(tmp_path)
    log.note("Ana", "operator", "erase", session="ab12", ended="complete")
    for _ in range(200):
        log.note("unknown", "none", LOGIN_FAILED, client="cd34")
    # Failed logins are bounded, because anyone can cause them. All operators' actions are there.
    assert (tmp_path / FAILED_LOGINS_FILE_NAME).stat().st_size < 3000
    lines = [json.loads(line) for line in (tmp_path / FILE_NAME).read_text().splitlines()]
    assert [(line["who"], line["action"], line["ended"]) for line in lines] == [("Ana", "erase", "complete")]
    assert "erase" not in (tmp_path / FAILED_LOGINS_FILE_NAME).read_text()


@pytest.mark.parametrize("reopened", [False, True])
def test_many_entries_of_one_action_do_not_hide_another(tmp_path: Path, *, reopened: bool) -> None:
    log = AuditLog(tmp_path)
    log.note("Ana", "operator", "redrive", letters=19)
    for _ in range(600):
        log.note("unknown", "none", LOGIN_FAILED)
        log.note("Ben", "operator", "login")
    if reopened:
        log = AuditLog(tmp_path)
    found = log.newest(20, {"redrive", "discard"})
    assert [(entry["who"], entry["letters"]) for entry in found] == [("Ana", 19)]
    assert {entry["action"] for entry in log.newest(10)} == {"login", LOGIN_FAILED}
    assert log.newest(10) == sorted(log.newest(10), key=lambda entry: entry["at"], reverse=True)


def test_a_line_cut_off_by_a_crash_is_left_out(tmp_path: Path) -> None:
    AuditLog(tmp_path).note("Ana", "operator", "login")
    with (tmp_path / FILE_NAME).open("a") as file:
        file.write('{"at": "2026-01-02T03:04:05.678+00:00", "who"')
    assert [entry["who"] for entry in AuditLog(tmp_path).newest()] == ["Ana"]


async def test_a_line_is_written_even_if_its_request_is_cancelled(tmp_path: Path):
    log = AuditLog(tmp_path)
    only_thread, may_go_on = ThreadPoolExecutor(1), threading.Event()
    asyncio.get_running_loop().set_default_executor(only_thread)
    busy = only_thread.submit(may_go_on.wait)
    writing = asyncio.create_task(log.write_down("Ana", "viewer", "export_sessions", ended="interrupted"))
    await asyncio.sleep(0)
    writing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await writing
    may_go_on.set()
    await asyncio.to_thread(busy.result)
    assert [entry["ended"] for entry in log.newest()] == ["interrupted"]
