"""Session commands that were read but are not in the table yet. judging.py compares later snapshots with them."""

from __future__ import annotations

from collections.abc import Sequence

from nexus_stream.contracts.session_command import CommandKind, SessionCommand
from tables.session_commands import can_expire, can_unblock
from tables.session_state import SessionState

__all__ = ["PendingCommands"]


class PendingCommands:
    """The queued commands of each session, in the order of reading. They are obeyed in this order."""

    def __init__(self) -> None:
        self._by_key: dict[bytes, list[SessionCommand]] = {}

    def __len__(self) -> int:
        return len(self._by_key)

    def of(self, key: bytes) -> Sequence[SessionCommand]:
        """The session's queued commands, the oldest first."""
        return self._by_key.get(key, ())

    def note(self, command: SessionCommand, known: SessionState | None, place: tuple[int, int] | None = None) -> bool:
        """Queue a command that was just read. False if it will change nothing.

        Args:
            command: The command.
            known: The session's state in the table.
            place: Partition and offset of the command's record.
        """
        queued = self.of(command.key)
        if any(other.request_id == command.request_id for other in queued):
            return False
        if known is not None and command.request_id in known.commands:
            return False
        if command.command is CommandKind.EXPIRE and not can_expire(command, known):
            # For example, the command is read again. Because of it, no later snapshot may be extracted and paid again.
            return False
        if command.command is CommandKind.UNBLOCK and not queued and not can_unblock(known, place):
            # Nothing to unblock. If another command is queued first, decide after it.
            return False
        self._by_key.setdefault(command.key, []).append(command)
        return True

    def obeyed(self, command: SessionCommand) -> None:
        """Forget the session's oldest command: it is in the table."""
        queued = self._by_key.get(command.key)
        if queued:
            queued.pop(0)
            if not queued:
                del self._by_key[command.key]

    def clear(self) -> None:
        """Forget all: the partitions were revoked, and their next owner reads the commands again."""
        self._by_key.clear()
