"""Compare a snapshot with the stored state of its session, and with the queued commands."""

from __future__ import annotations

from collections.abc import Iterable

from nexus_stream.contracts.session_command import CommandKind, SessionCommand
from nexus_stream.delivery.settling import Snapshot
from tables.session_state import SessionState, Verdict

__all__ = ["after_commands", "judge"]

# Verdicts from a comparison with a state. A queued expiry deletes that state, so they become NEW.
_COMPARED = frozenset({Verdict.FINGERPRINT, Verdict.RETOLD, Verdict.DUPLICATE, Verdict.GIVEN_UP, Verdict.STALE})


def judge(state: SessionState | None, queued: Iterable[SessionCommand], snapshot: Snapshot) -> Verdict:
    """The verdict on a snapshot after the queued commands.

    Args:
        state: The session's state in the table; None if there is none.
        queued: The session's commands that are not in the table yet, in the order in which they are obeyed.
        snapshot: The snapshot that arrived.
    """
    return after_commands(Verdict.NEW if state is None else state.judge(snapshot), queued, snapshot)


def after_commands(verdict: Verdict, queued: Iterable[SessionCommand], snapshot: Snapshot) -> Verdict:
    """Change the table's verdict as the queued commands will change the state."""
    for command in queued:
        match command.command:
            case CommandKind.ERASE:
                verdict = Verdict.SUPPRESSED
            case CommandKind.UNBLOCK:
                if verdict is Verdict.SUPPRESSED and snapshot.snapshot_at_ms > command.requested_at_ms:
                    verdict = Verdict.NEW
            case CommandKind.EXPIRE:
                if verdict in _COMPARED:
                    verdict = Verdict.NEW
    return verdict
