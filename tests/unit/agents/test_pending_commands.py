"""What is judged while a command waits to be obeyed."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from nexus_stream.contracts.session_command import CommandKind, SessionCommand
from nexus_stream.enrichment.pending_commands import PendingCommands
from tables.session_state import SessionState, Verdict

KEY = b"s-1"


def command(kind: CommandKind, request_id: str = "request-1") -> SessionCommand:
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    idle_since_ms = 0 if kind is CommandKind.EXPIRE else None
    return SessionCommand(
        command=kind, session_id="s-1", request_id=request_id, requested_at=moment, idle_since_ms=idle_since_ms
    )


def pending(*kinds: CommandKind) -> PendingCommands:
    commands = PendingCommands()
    for number, kind in enumerate(kinds):
        assert commands.note(command(kind, f"request-{number}"), None)
    return commands


@pytest.mark.parametrize("verdict", Verdict)
def test_after_an_erasure_everything_stays_away(verdict: Verdict):
    assert pending(CommandKind.ERASE).judge(KEY, verdict) is Verdict.SUPPRESSED
    assert pending(CommandKind.LIFT, CommandKind.ERASE).judge(KEY, verdict) is Verdict.SUPPRESSED


@pytest.mark.parametrize("verdict", Verdict)
def test_after_a_lift_what_was_kept_away_is_read(verdict: Verdict):
    expected = Verdict.NEW if verdict is Verdict.SUPPRESSED else verdict
    assert pending(CommandKind.ERASE, CommandKind.LIFT).judge(KEY, verdict) is expected


@pytest.mark.parametrize("verdict", Verdict)
def test_an_expiry_brings_back_what_is_only_known_but_nothing_erased_or_refused(verdict: Verdict):
    is_compared = verdict in {Verdict.FINGERPRINT, Verdict.DUPLICATE, Verdict.STALE}
    assert pending(CommandKind.EXPIRE).judge(KEY, verdict) is (Verdict.NEW if is_compared else verdict)


@pytest.mark.parametrize("verdict", Verdict)
def test_without_a_command_the_table_has_the_word(verdict: Verdict):
    commands = pending(CommandKind.ERASE)
    assert commands.judge(b"s-2", verdict) is verdict
    commands.obeyed(command(CommandKind.ERASE, "request-0"))
    assert commands.judge(KEY, verdict) is verdict
    assert len(commands) == 0


def test_the_same_request_is_noted_once_whether_it_waits_or_was_obeyed():
    commands = pending(CommandKind.ERASE)
    assert not commands.note(command(CommandKind.ERASE, "request-0"), None)
    known = SessionState(session_id="s-1", commands=("request-9",))
    assert not commands.note(command(CommandKind.LIFT, "request-9"), known)
    assert commands.note(command(CommandKind.LIFT, "request-8"), known)
