"""Intents: one frozen type for each reaction to a record or an extraction, with exactly the data of its decision.

The stage queues intents. decisions.py decides the write and the send of each.
"""

from __future__ import annotations

from dataclasses import dataclass

from nexus_stream.contracts.session_command import SessionCommand
from nexus_stream.delivery.outcomes import ReemitCause
from nexus_stream.delivery.received import Received
from nexus_stream.delivery.settling import Snapshot, Work
from nexus_stream.errors import PermanentError
from nexus_stream.extraction.extractor import Findings
from nexus_stream.extraction.grounding import Checked

__all__ = ["Abandon", "DeadLetter", "GiveUp", "Intent", "Obey", "Reemit", "Reroute", "Retell", "Store", "WorkIntent"]

# Intents of a record


@dataclass(frozen=True, slots=True)
class _OfRecord:
    """``record``: its offset is done afterwards, and its outcome is reported."""

    record: Received

    @property
    def about(self) -> Received:
        """The record that ends."""
        return self.record

    @property
    def size_bytes(self) -> int:
        """Its size for the bound on pending bytes."""
        return len(self.record.value or b"")


@dataclass(frozen=True, slots=True)
class Reroute(_OfRecord):
    """Send a record to its session's partition: its producer keyed it differently."""

    key: bytes
    partition: int


@dataclass(frozen=True, slots=True)
class DeadLetter(_OfRecord):
    """Send a dead letter. No state changes: the record cannot be read, or its letter is only sent again."""

    error: PermanentError
    attempts: int = 1

    @property
    def key(self) -> bytes:
        """The record's key."""
        return self.record.key or b""


@dataclass(frozen=True, slots=True)
class Reemit(_OfRecord):
    """Emit the stored result again.

    Attributes:
        snapshot: A snapshot of the session. Its record differs from ``record`` if the cause is late fingerprints.
        cause: The cause.
        fingerprints: The fingerprints to add, the current one last.
        letter: A dead letter to send again with the result: the offline rules read the snapshot instead of the model.
    """

    snapshot: Snapshot
    cause: ReemitCause
    fingerprints: tuple[str, ...] = ()
    letter: DeadLetter | None = None

    @property
    def key(self) -> bytes:
        """The session key."""
        return self.snapshot.conversation.key


@dataclass(frozen=True, slots=True)
class Obey(_OfRecord):
    """Obey a session command.

    Attributes:
        command: The command.
        is_noted: Whether it is in the pending commands. They decide about later snapshots until it is in the table.
        fingerprints: Fingerprints of the work that an erasure cancelled. No other place has them.
    """

    command: SessionCommand
    is_noted: bool
    fingerprints: tuple[str, ...] = ()

    @property
    def key(self) -> bytes:
        """The session key."""
        return self.command.key


# Intents of a work


@dataclass(frozen=True, slots=True)
class _OfWork:
    """``record``: the work's first record, whose offset is done afterwards. ``about``: the newest snapshot's record."""

    work: Work
    snapshot: Snapshot

    @property
    def record(self) -> Received:
        """The work's first record."""
        return self.work.hold

    @property
    def about(self) -> Received:
        """The record that ends."""
        return self.snapshot.record

    @property
    def key(self) -> bytes:
        """The session key."""
        return self.work.key


@dataclass(frozen=True, slots=True)
class Store(_OfWork):
    """Store and emit the findings."""

    findings: Findings
    checked: Checked


@dataclass(frozen=True, slots=True)
class Retell(_OfWork):
    """Emit the stored result with the facts of a newer snapshot: the user said nothing new."""


@dataclass(frozen=True, slots=True)
class GiveUp(_OfWork):
    """Send a snapshot that cannot be extracted to the dead letters, and note it in the session's state.

    Attributes:
        instead: What the offline rules read in it, to be stored and emitted too; None if they could not read it.
    """

    error: PermanentError
    attempts: int
    instead: Store | None = None


@dataclass(frozen=True, slots=True)
class Abandon(_OfWork):
    """Do nothing: the session was erased while the work ran."""


WorkIntent = Store | Retell | GiveUp | Abandon
Intent = Reroute | DeadLetter | Reemit | Obey | WorkIntent
