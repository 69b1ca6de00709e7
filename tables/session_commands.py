"""The effect of a command (erase, unblock, expire) on a session: its next state and the erased event. Pure.

A command is obeyed once. Its request id stays in the state, so a command that is read again changes nothing: after
a crash, or in a replay of the whole topic, even if the person was unblocked since. Only the newest command's event is
sent again, because a crash may have come before the event was sent.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from nexus_stream.contracts.erased import ErasedSession
from nexus_stream.contracts.session_command import CommandKind, SessionCommand
from nexus_stream.contracts.subject import subject_hash
from tables.session_state import STATE_VERSION, Erasure, SessionState

__all__ = ["Obeyed", "can_expire", "can_unblock", "obey"]

# Above the number of commands for one session within the ingestion topic's retention.
_MAX_COMMANDS = 16
_MAX_HASHES = 256


@dataclass(frozen=True, slots=True)
class Obeyed:
    """The effect of a command.

    Attributes:
        changes: Whether the table must be written. Then a ``state`` of None deletes the session.
        state: The session's new state.
        event: The event for subscribers.
    """

    changes: bool
    state: SessionState | None
    event: ErasedSession | None


def obey(
    command: SessionCommand,
    known: SessionState | None,
    fingerprints: Iterable[str],
    *,
    now_ms: int,
    place: tuple[int, int] | None = None,
) -> Obeyed:
    """Return the effect of a command on a session.

    Args:
        command: The command.
        known: The session's state, if there is one.
        fingerprints: Fingerprints of cancelled work, beyond those of the state.
        now_ms: Unix milliseconds.
        place: Partition and offset of the command's record.
    """
    match command.command:
        case CommandKind.EXPIRE:
            return _expire(command, known)
        case CommandKind.UNBLOCK:
            return _unblock(command, known, now_ms, place)
        case CommandKind.ERASE:
            return _erase(command, known, fingerprints, now_ms, place)


def _erase(
    command: SessionCommand,
    known: SessionState | None,
    fingerprints: Iterable[str],
    now_ms: int,
    place: tuple[int, int] | None,
) -> Obeyed:
    if known is not None and command.request_id in known.commands:
        is_newest = known.erasure is not None and known.commands[-1] == command.request_id
        return Obeyed(False, known, _event(known, known.erasure) if is_newest and known.erasure else None)
    hashes = dict.fromkeys(command.fingerprint_hashes)
    if known is not None and known.erasure is not None:
        hashes.update(dict.fromkeys(known.erasure.fingerprint_hashes))
    for fingerprint in (*(known.fingerprints if known is not None else ()), *fingerprints):
        hashes[subject_hash(command.tenant_id, "fingerprint", fingerprint)] = None
    erasure = Erasure(
        request_id=command.request_id,
        requested_at=_iso(command.requested_at_ms),
        erased_at=_iso(now_ms),
        fingerprint_hashes=tuple(hashes)[:_MAX_HASHES],
        obeyed_at=place,
    )
    # A new state, not a copy. So fields of a later version are deleted too.
    state = SessionState(
        state_version=STATE_VERSION,
        tenant_id=command.tenant_id,
        session_id=command.session_id,
        status="erased",
        erasure=erasure,
        commands=_with(known, command),
        last_seen_ms=now_ms,
    )
    return Obeyed(True, state, _event(state, erasure))


def _unblock(command: SessionCommand, known: SessionState | None, now_ms: int, place: tuple[int, int] | None) -> Obeyed:
    if not can_unblock(known, place) or (known is not None and command.request_id in known.commands):
        return Obeyed(False, known, None)
    state = SessionState(
        state_version=STATE_VERSION,
        tenant_id=command.tenant_id,
        session_id=command.session_id,
        status="unblocked",
        commands=_with(known, command),
        lifted_at_ms=command.requested_at_ms,
        first_seen_ms=now_ms,
        last_seen_ms=now_ms,
    )
    return Obeyed(True, state, None)


def can_unblock(known: SessionState | None, place: tuple[int, int] | None) -> bool:
    """Whether the session is erased, by a command before the one at that partition and offset."""
    if known is None or known.erasure is None:
        return False
    erased_at = known.erasure.obeyed_at
    return place is None or erased_at is None or place[0] != erased_at[0] or place[1] > erased_at[1]


def can_expire(command: SessionCommand, known: SessionState | None) -> bool:
    """Whether there is a session that was idle since the command's moment. An erased session's marker stays."""
    return known is not None and known.erasure is None and known.last_seen_ms <= (command.idle_since_ms or 0)


def _expire(command: SessionCommand, known: SessionState | None) -> Obeyed:
    idle_since_ms = command.idle_since_ms or 0
    if known is not None and not can_expire(command, known):
        return Obeyed(False, known, None)
    event = ErasedSession(
        tenant_id=command.tenant_id,
        session_id=command.session_id,
        reason="retention",
        # A snapshot's own time may be a little later than the time it was read.
        through_ms=max(idle_since_ms, command.through_ms or 0, known.snapshot_at_ms if known is not None else 0),
        requested_at=_iso(command.requested_at_ms),
        request_id=command.request_id,
        # The state is deleted, so only the command can give the time. The same event again must be equal.
        erased_at=_iso(command.requested_at_ms),
    )
    # Without a state, the command is read again after a crash between the deletion and its event.
    return Obeyed(known is not None, None, event)


def _event(state: SessionState, erasure: Erasure) -> ErasedSession:
    return ErasedSession(
        tenant_id=state.tenant_id,
        session_id=state.session_id,
        fingerprint_hashes=erasure.fingerprint_hashes,
        requested_at=erasure.requested_at,
        request_id=erasure.request_id,
        erased_at=erasure.erased_at,
    )


def _with(known: SessionState | None, command: SessionCommand) -> tuple[str, ...]:
    before = known.commands if known is not None else ()
    return (*before, command.request_id)[-_MAX_COMMANDS:]


def _iso(now_ms: int) -> str:
    return datetime.fromtimestamp(now_ms / 1000, UTC).isoformat(timespec="milliseconds")
