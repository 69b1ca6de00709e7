"""Session commands that were read and are not obeyed in the table yet; what arrives meanwhile is judged by them.

From: nexus_stream/enrichment/stage.py, as commands are read and obeyed. To: its judgement of what comes after them.
"""

from __future__ import annotations

from nexus_stream.contracts.session_command import CommandKind, SessionCommand
from nexus_stream.delivery.settling import Snapshot
from tables.session_commands import can_expire, can_unblock
from tables.session_state import SessionState, Verdict

__all__ = ["PendingCommands"]

# Verdicts that compare with a state which an expiry is about to take away.
_COMPARED = frozenset({Verdict.FINGERPRINT, Verdict.DUPLICATE, Verdict.STALE})


class PendingCommands:
    """By session, in the order they were read, which is the order they are obeyed in."""

    def __init__(self) -> None:
        self._by_key: dict[bytes, list[SessionCommand]] = {}

    def __len__(self) -> int:
        return len(self._by_key)

    def note(self, command: SessionCommand, known: SessionState | None, place: tuple[int, int] | None = None) -> bool:
        """Note a command, unless the same request was read before or it will change nothing; whether it was noted.

        Args:
            command: Just read.
            known: The session's state in the table.
            place: Partition and offset of the command's record.
        """
        pending = self._by_key.get(command.key, [])
        if any(other.request_id == command.request_id for other in pending):
            return False
        if known is not None and command.request_id in known.commands:
            return False
        if command.command is CommandKind.EXPIRE and not can_expire(command, known):
            # Read again, say: what came after it must not be paid for because of it.
            return False
        if command.command is CommandKind.UNBLOCK and not pending and not can_unblock(known, place):
            # Nor let in. Behind another command that waits, only that one's end can tell.
            return False
        self._by_key.setdefault(command.key, []).append(command)
        return True

    def obeyed(self, command: SessionCommand) -> None:
        """Forget the session's first one: it is in the table."""
        pending = self._by_key.get(command.key)
        if pending:
            pending.pop(0)
            if not pending:
                del self._by_key[command.key]

    def judge(self, snapshot: Snapshot, verdict: Verdict) -> Verdict:
        """The table's verdict of a snapshot, as it will be once the session's commands are obeyed."""
        for command in self._by_key.get(snapshot.conversation.key, ()):
            match command.command:
                case CommandKind.ERASE:
                    verdict = Verdict.SUPPRESSED
                case CommandKind.UNBLOCK:
                    if verdict is Verdict.SUPPRESSED and snapshot.snapshot_at_ms > command.requested_at_ms:
                        verdict = Verdict.NEW
                case CommandKind.EXPIRE:
                    if verdict in _COMPARED:
                        # What is said after it is welcome.
                        verdict = Verdict.NEW
        return verdict

    def clear(self) -> None:
        """Forget all: the partitions were revoked, and the commands are read again."""
        self._by_key.clear()
