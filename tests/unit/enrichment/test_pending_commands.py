"""What is judged while a command waits to be obeyed."""

from __future__ import annotations

from datetime import UTC, datetime

import orjson
import pytest

from nexus_stream.contracts.conversation import Limits, decode
from nexus_stream.contracts.session_command import CommandKind, SessionCommand
from nexus_stream.delivery.received import Received
from nexus_stream.delivery.settling import Snapshot
from nexus_stream.enrichment.judging import after_commands
from nexus_stream.enrichment.pending_commands import PendingCommands
from tables.session_state import Erasure, SessionState, Verdict

# Of what is said, before and after the commands.
COMMANDED_AT_MS, EARLIER, LATER = 1_767_225_600_000, -1000, 1000


def snapshot(moment: int = LATER, session: str = "s-1") -> Snapshot:
    value = orjson.dumps({"messages": [{"role": "user", "content": "hola"}], "sessionId": session})
    record = Received("ingestion", 0, 7, COMMANDED_AT_MS + moment, session.encode(), value, (), epoch=1)
    return Snapshot.of(record, decode(value, Limits()))


def command(kind: CommandKind, request_id: str = "request-1") -> SessionCommand:
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    idle_since_ms = 0 if kind is CommandKind.EXPIRE else None
    return SessionCommand(
        command=kind, session_id="s-1", request_id=request_id, requested_at=moment, idle_since_ms=idle_since_ms
    )


def judged(commands: PendingCommands, said: Snapshot, verdict: Verdict) -> Verdict:
    return after_commands(verdict, commands.of(said.conversation.key), said)


IDLE = SessionState(session_id="s-1", last_seen_ms=0)


def pending(*kinds: CommandKind, known: SessionState = IDLE) -> PendingCommands:
    commands = PendingCommands()
    for number, kind in enumerate(kinds):
        assert commands.note(command(kind, f"request-{number}"), known)
    return commands


@pytest.mark.parametrize("verdict", Verdict)
def test_after_an_erasure_everything_stays_away(verdict: Verdict):
    assert judged(pending(CommandKind.ERASE), snapshot(), verdict) is Verdict.SUPPRESSED
    assert (
        judged(pending(CommandKind.UNBLOCK, CommandKind.ERASE, known=erased()), snapshot(), verdict)
        is Verdict.SUPPRESSED
    )
    # Nothing is left to expire, and nothing is read for it.
    assert judged(pending(CommandKind.ERASE, CommandKind.EXPIRE), snapshot(), verdict) is Verdict.SUPPRESSED


@pytest.mark.parametrize("verdict", Verdict)
def test_after_a_lift_what_is_said_later_is_read_whatever_was_known_before_the_erasure(verdict: Verdict):
    commands = pending(CommandKind.ERASE, CommandKind.UNBLOCK)
    assert judged(commands, snapshot(LATER), verdict) is Verdict.NEW
    assert judged(commands, snapshot(EARLIER), verdict) is Verdict.SUPPRESSED
    assert judged(commands, snapshot(0), verdict) is Verdict.SUPPRESSED


@pytest.mark.parametrize("verdict", Verdict)
def test_a_lift_alone_lets_in_only_what_the_table_suppressed(verdict: Verdict):
    commands = pending(CommandKind.UNBLOCK, known=erased())
    assert judged(commands, snapshot(LATER), verdict) is (Verdict.NEW if verdict is Verdict.SUPPRESSED else verdict)
    assert judged(commands, snapshot(EARLIER), verdict) is verdict


@pytest.mark.parametrize("verdict", Verdict)
def test_an_expiry_brings_back_what_is_only_known_but_nothing_erased_or_refused(verdict: Verdict):
    is_compared = verdict in {
        Verdict.FINGERPRINT,
        Verdict.RETOLD,
        Verdict.DUPLICATE,
        Verdict.GIVEN_UP,
        Verdict.STALE,
    }
    assert judged(pending(CommandKind.EXPIRE), snapshot(), verdict) is (Verdict.NEW if is_compared else verdict)


@pytest.mark.parametrize("verdict", Verdict)
def test_without_a_command_the_table_has_the_word(verdict: Verdict):
    commands = pending(CommandKind.ERASE)
    assert judged(commands, snapshot(session="s-2"), verdict) is verdict
    commands.obeyed(command(CommandKind.ERASE, "request-0"))
    assert judged(commands, snapshot(), verdict) is verdict
    assert len(commands) == 0


def test_commands_are_forgotten_in_the_order_in_which_they_were_read():
    commands = pending(CommandKind.ERASE, CommandKind.UNBLOCK)
    commands.obeyed(command(CommandKind.ERASE, "request-0"))
    assert [one.command for one in commands.of(b"s-1")] == [CommandKind.UNBLOCK]
    assert judged(commands, snapshot(LATER), Verdict.SUPPRESSED) is Verdict.NEW


def test_the_same_request_is_noted_once_whether_it_waits_or_was_obeyed():
    commands = pending(CommandKind.ERASE)
    assert not commands.note(command(CommandKind.ERASE, "request-0"), None)
    known = erased().model_copy(update={"commands": ("request-9",)})
    assert not commands.note(command(CommandKind.UNBLOCK, "request-9"), known)
    assert commands.note(command(CommandKind.UNBLOCK, "request-8"), known)


def test_an_expiry_that_will_change_nothing_is_not_noted():
    commands = PendingCommands()
    expire = command(CommandKind.EXPIRE)
    for known in (None, SessionState(session_id="s-1", last_seen_ms=1), erased()):
        assert not commands.note(expire, known)
    assert commands.note(expire, IDLE)


def test_a_lift_that_will_change_nothing_is_not_noted():
    commands = PendingCommands()
    lift = command(CommandKind.UNBLOCK)
    assert not commands.note(lift, None)
    assert not commands.note(lift, IDLE, (0, 5))
    # Read again: at its offset nothing was erased yet.
    assert not commands.note(lift, erased(obeyed_at=(0, 6)), (0, 5))
    assert commands.note(lift, erased(obeyed_at=(0, 4)), (0, 5))
    # What the erasure before it leaves is not in the table yet.
    behind = pending(CommandKind.ERASE)
    assert behind.note(command(CommandKind.UNBLOCK, "request-9"), IDLE, (0, 5))


def erased(obeyed_at: tuple[int, int] | None = None) -> SessionState:
    erasure = Erasure(request_id="request-1", requested_at="", erased_at="", obeyed_at=obeyed_at)
    return SessionState(session_id="s-1", status="erased", erasure=erasure)
