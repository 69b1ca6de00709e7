"""The state of a session, and how a snapshot compares with it. Pure: no Faust, no broker.

session_changes.py computes the next state.

The state is the JSON value of the table and its changelog (docs/reference/data-model.md). It holds no text of a
conversation.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from nexus_stream.contracts.conversation import Metadata
from nexus_stream.contracts.cutting import Cut
from nexus_stream.contracts.headers import (
    AGAIN_HEADER,
    AGAIN_OF_HEADER,
    ANSWER_HEADER,
    ENRICHED_TYPE,
    REDRIVE_HEADER,
    Headers,
    event_headers,
)
from nexus_stream.contracts.prospect import (
    SCHEMA_VERSION,
    ConversationFacts,
    EnrichedProspect,
    ExtractionFacts,
    Prospect,
    Signal,
    Source,
    VisitorIdentity,
)
from nexus_stream.contracts.said import Said, words_hashes
from nexus_stream.delivery.ordering import MAX_STEPS, Relation, is_later, missing_steps, relate
from nexus_stream.delivery.settling import Snapshot
from nexus_stream.errors import Reason, StateVersionError
from nexus_stream.extraction.extractor import MadeBy

__all__ = [
    "STATE_VERSION",
    "Counters",
    "Dead",
    "Erasure",
    "ReadInstead",
    "Reading",
    "SessionState",
    "Verdict",
    "as_reading",
    "decode_state",
    "encode_state",
    "identity_after",
    "words_hash",
]

STATE_VERSION = 1
# A snapshot with one of these relations tells something that the state does not have.
_TELLING = frozenset({Relation.EXTENDS, Relation.RETOLD, Relation.PRECEDES, Relation.LATER})
# A snapshot with one of these has not the newest words of the state.
_OLDER = frozenset({Relation.PRECEDES, Relation.PREFIX, Relation.EARLIER})
# A snapshot with one of these has the words of the state, and no other ones.
_SAME = frozenset({Relation.EQUAL, Relation.RETOLD, Relation.TOLD})
# A snapshot with one of these has the newest words of the state, and perhaps more.
_WHOLE = _SAME | {Relation.EXTENDS}


class Verdict(Enum):
    """How a snapshot compares with the session's state."""

    NEW = auto()  # extract it
    REDELIVERED = auto()  # this record is in the table: emit the stored result, no call
    FINGERPRINT = auto()  # stored, but the fingerprint is new: emit the stored result with it, no call
    RETOLD = auto()  # the user said nothing new: let it settle, then emit the stored result with its facts, no call
    DEAD = auto()  # this record was dead-lettered: send the same letter again, and what the rules read in its place
    GIVEN_UP = auto()  # an equal snapshot was dead-lettered, and no operator sent this one back
    DUPLICATE = auto()
    STALE = auto()
    SUPPRESSED = auto()  # the session was erased, and the snapshot is not from after an unblock


class _StateModel(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)


class _Failed(_StateModel):
    """A snapshot that no model could read."""

    digest: str
    # Hash of what the user said. A snapshot that only tells the same again is given up too.
    words: str = ""

    def holds(self, snapshot: Snapshot) -> bool:
        """Whether that snapshot, or one in which the user said the same, was given up."""
        return snapshot.digest == self.digest or (bool(self.words) and words_hash(snapshot) == self.words)


class ReadInstead(_Failed):
    """A snapshot that the offline rules read instead, and no model since. An operator may redrive its letter."""

    # The site has restarted its history since.
    is_past: bool = False


class Dead(_Failed):
    """The last snapshot that could not be extracted."""

    partition: int
    offset: int
    reason: Reason
    attempts: int = 1
    # The offline rules read it instead, so the state has its words.
    is_read: bool = False
    # The labels of the extractor that could not read it.
    asked: str = ""


class Reading(_StateModel):
    """A record's values and their evidence."""

    prospect: Prospect = Prospect()
    signals: tuple[Signal, ...] = ()


class Counters(_StateModel):
    """Sums over the session's life."""

    snapshots: int = 0
    calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost_usd: float = 0.0


class Erasure(_StateModel):
    """The remaining data of an erased session, needed to suppress it. No personal data: hashes and times."""

    request_id: str
    requested_at: str
    erased_at: str
    fingerprint_hashes: tuple[str, ...] = ()
    # Partition and offset of the command. An earlier unblock that is read again does not undo the erasure.
    obeyed_at: tuple[int, int] | None = None


class SessionState(_StateModel):
    """One session. ``snapshot_at_ms`` and ``enriched_at`` only grow, so readers can order its records."""

    state_version: Annotated[int, Field(ge=1)] = STATE_VERSION
    tenant_id: str = ""
    session_id: str
    fingerprints: tuple[str, ...] = ()
    status: Literal["enriched", "dead", "erased", "unblocked"] = "enriched"
    # The user's words of the newest snapshot, and those before that its site cut off.
    said: Said = ()
    # Hashes of histories that the site has restarted since: nothing in them is new.
    past: tuple[str, ...] = ()
    consent: bool | None = None
    turns: int = 0
    digest: str = ""
    snapshot_at_ms: int = 0
    source_partition: int = 0
    source_offset: int = 0
    is_returned: bool = False
    correlation_id: str | None = None
    enqueued_at: str | None = None
    # Partition and offset of the newest record that only added a fingerprint.
    linked_at: tuple[int, int] | None = None
    first_url: str | None = None
    # Of the newest extracted snapshot.
    cut: Cut | None = None
    left_out: dict[str, int] = {}
    identity: VisitorIdentity | None = None
    prospect: Prospect | None = None
    extraction: ExtractionFacts | None = None
    # The record without the values that the offline rules read instead of a model. A model's answer goes into this one.
    base: Reading | None = None
    # What the rules read instead of a model and no model has read since: the newest ones. None if `base` is None.
    read_instead: tuple[ReadInstead, ...] = ()
    enriched_at: str | None = None
    dead: Dead | None = None
    # If this is set, the state holds no other data of the session.
    erasure: Erasure | None = None
    # Request ids of the newest obeyed commands. A command that is read again, in a replay for example, does nothing.
    commands: tuple[str, ...] = ()
    # The session was unblocked, but snapshots up to this time stay suppressed.
    lifted_at_ms: int | None = None
    counters: Counters = Counters()
    first_seen_ms: int = 0
    last_seen_ms: int = 0

    @property
    def fingerprint(self) -> str | None:
        """The current fingerprint. A snapshot without one inherits it."""
        return self.fingerprints[-1] if self.fingerprints else None

    def suppresses(self, snapshot: Snapshot) -> bool:
        """Whether the session was erased, and the snapshot is not from after an unblock."""
        if self.status == "erased":
            return True
        return self.lifted_at_ms is not None and snapshot.snapshot_at_ms <= self.lifted_at_ms

    def begins_after(self, snapshot: Snapshot) -> bool:
        """Whether the snapshot lacks this state's newest words: it brings older ones, or a redrive reads them again."""
        return bool(self.digest) and relate(snapshot, self) in _OLDER

    def covers(self, snapshot: Snapshot) -> bool:
        """Whether the snapshot has all words of this state."""
        if not self.digest:
            return True
        is_whole = missing_steps(snapshot.said, self.said) == 0 and len(snapshot.said) >= len(self.said)
        return is_whole and relate(snapshot, self) in _WHOLE

    def is_asked_again(self, snapshot: Snapshot) -> bool:
        """Whether an operator redrives a snapshot, and the record still has what the rules read in its place."""
        if self.base is None or snapshot.record.header(REDRIVE_HEADER) is None:
            return False
        record = snapshot.record
        if record.partition == self.source_partition and record.offset <= self.source_offset:
            # In a replay: it was read, or it is older than what was.
            return False
        if (record.partition, record.offset) == self.linked_at:
            return False
        consent = snapshot.conversation.metadata.consent
        if self.consent is False or (consent != self.consent and not is_later(snapshot, self)):
            # The newer word about the consent counts, also against an operator.
            return False
        return any(one.holds(snapshot) for one in self.read_instead)

    def unread_after(self, snapshot: Snapshot) -> tuple[ReadInstead, ...]:
        """What the rules read instead of a model, without what the snapshot has too."""
        if not self.read_instead:
            return ()
        is_whole = self.covers(snapshot)
        had = set(words_hashes(snapshot.said, snapshot.conversation.metadata.consent))
        return tuple(
            one
            for one in self.read_instead
            if not (one.holds(snapshot) or one.words in had or (is_whole and not one.is_past))
        )

    def improves(self, snapshot: Snapshot) -> bool:
        """Whether the snapshot brings a model's answer for turns that only the offline rules have read."""
        if snapshot.record.header(ANSWER_HEADER) is None or snapshot.conversation.metadata.consent is False:
            return False
        if self.dead is not None and self.dead.holds(snapshot):
            # A model was asked: only an operator's redrive asks again.
            return False
        return self.extraction is not None and self.extraction.extractor.startswith("offline-rules")

    @property
    def made_by(self) -> MadeBy | None:
        """Who made the record; None if there is none."""
        made = self.extraction
        return None if made is None else MadeBy(made.extractor, made.model, made.prompt_version)

    def is_read_again(self, snapshot: Snapshot) -> bool:
        """Whether the snapshot brings another model's or prompt's answer for the same words, and for this reading."""
        again, replaced = snapshot.record.header(AGAIN_HEADER), snapshot.record.header(AGAIN_OF_HEADER)
        consent = snapshot.conversation.metadata.consent
        made_by = self.made_by
        if again is None or snapshot.record.header(ANSWER_HEADER) is None or made_by is None:
            return False
        if replaced != made_by.label.encode():
            # The record was read otherwise since: perhaps by a newer prompt than this answer's.
            return False
        if snapshot.source_partition == self.source_partition and snapshot.source_offset <= self.source_offset:
            # In a replay: it was followed by a newer answer, or it is the state's own record.
            return False
        if consent is False or consent != self.consent or relate(snapshot, self) not in _SAME:
            return False
        asked = self.dead.asked if self.dead is not None and self.dead.holds(snapshot) else ""
        return again.decode("utf-8", "replace") not in {made_by.label, asked}

    def is_old_telling(self, snapshot: Snapshot) -> bool:
        """Whether an operator sent the snapshot back, to be read again, and it is no later than this state's."""
        place, own_place = (snapshot.snapshot_at_ms, snapshot.turns), (self.snapshot_at_ms, self.turns)
        return place <= own_place and (self.is_read_again(snapshot) or self.is_asked_again(snapshot))

    def is_all_in(self, snapshot: Snapshot) -> bool:
        """Whether the snapshot has all that the user ever said in this session, also before the site's restarts."""
        return self.covers(snapshot) and not self.past and len(self.said) < MAX_STEPS

    def judge(self, snapshot: Snapshot) -> Verdict:
        """Compare a snapshot with this state."""
        record = snapshot.record
        if self.suppresses(snapshot):
            return Verdict.SUPPRESSED
        if self.dead is not None and self.dead.holds(snapshot):
            if (record.partition, record.offset) == (self.dead.partition, self.dead.offset):
                return Verdict.DEAD
            if record.header(REDRIVE_HEADER) is None and not self.dead.is_read:
                return Verdict.GIVEN_UP
        if self.is_asked_again(snapshot):
            return Verdict.NEW
        if not self.digest:
            return Verdict.NEW
        fingerprint = snapshot.conversation.fingerprint
        relation = relate(snapshot, self)
        if self.linked_at == (record.partition, record.offset) and relation not in _TELLING:
            return Verdict.REDELIVERED
        if self.is_read_again(snapshot):
            return Verdict.NEW
        if relation is Relation.EQUAL:
            if (record.partition, record.offset) == (self.source_partition, self.source_offset):
                return Verdict.REDELIVERED
            if self.improves(snapshot):
                return Verdict.NEW
            if identity_after(self.identity, snapshot.conversation.metadata) != self.identity:
                return Verdict.RETOLD
        says_otherwise = snapshot.conversation.metadata.consent != self.consent
        if relation is Relation.EQUAL or (relation is Relation.TOLD and not says_otherwise):
            if fingerprint is not None and fingerprint not in self.fingerprints:
                return Verdict.FINGERPRINT
            return Verdict.DUPLICATE
        if relation in {Relation.RETOLD, Relation.TOLD} and says_otherwise:
            # The same words with another consent: the later one counts.
            relation = Relation.EXTENDS if is_later(snapshot, self) else Relation.PREFIX
        if relation is Relation.RETOLD:
            return Verdict.RETOLD
        is_past = relation is Relation.LATER and words_hash(snapshot) in self.past
        # An operator who redrives a letter wants it read, also if its history ended.
        is_past = is_past and record.header(REDRIVE_HEADER) is None
        if relation in {Relation.EXTENDS, Relation.PRECEDES, Relation.LATER} and not is_past:
            return Verdict.NEW
        # The snapshot is late, but it may be the first with a fingerprint.
        if fingerprint is not None and not self.fingerprints:
            return Verdict.FINGERPRINT
        return Verdict.STALE

    def emission_headers(self, source: str) -> Headers:
        """The CloudEvents headers of this state's record. A re-emission has the same id."""
        identity = (self.tenant_id, self.session_id, str(self.snapshot_at_ms), self.digest, self.fingerprint or "")
        return event_headers(
            ENRICHED_TYPE, *identity, source=source, time=self.enriched_at or "", correlation_id=self.correlation_id
        )

    def to_enriched(self, ingestion_topic: str) -> EnrichedProspect:
        """The record to emit: a function of the state alone, so a re-emission changes nothing downstream."""
        if self.prospect is None or self.extraction is None or self.enriched_at is None:
            raise ValueError("nothing was extracted for this session yet")
        # The values were validated before.
        return EnrichedProspect.model_construct(
            schema_version=SCHEMA_VERSION,
            tenant_id=self.tenant_id,
            session_id=self.session_id,
            fingerprint=self.fingerprint,
            prospect=self.prospect,
            conversation=ConversationFacts(
                turns=self.turns,
                digest=self.digest,
                first_url=self.first_url,
                cut=self.cut,
                left_out=self.left_out,
                identity=self.identity,
            ),
            extraction=self.extraction,
            snapshot_at_ms=self.snapshot_at_ms,
            enqueued_at=self.enqueued_at,
            enriched_at=self.enriched_at,
            source=Source(topic=ingestion_topic, partition=self.source_partition, offset=self.source_offset),
        )


def words_hash(snapshot: Snapshot) -> str:
    """A hash of all that the user said in a snapshot, and of the consent; empty if the user said nothing."""
    return (words_hashes(snapshot.said, snapshot.conversation.metadata.consent) or [""])[-1]


def identity_after(before: VisitorIdentity | None, metadata: Metadata) -> VisitorIdentity | None:
    """The claim of the newest snapshot that has one, but a claim without proof replaces no proven identity."""
    if metadata.identity is None or (before is not None and before.proven and not metadata.identity_proven):
        return before
    return VisitorIdentity(value=metadata.identity, proven=metadata.identity_proven)


def as_reading(state: SessionState | None) -> Reading:
    """The record of a state; an empty one if there is none."""
    if state is None or state.prospect is None:
        return Reading()
    return Reading(prospect=state.prospect, signals=state.extraction.signals if state.extraction is not None else ())


def encode_state(state: SessionState) -> bytes:
    """A state in the changelog's form."""
    return state.model_dump_json(exclude_none=True).encode()


def decode_state(raw: bytes) -> SessionState:
    """A state from the changelog or the local store.

    Raises:
        StateVersionError: a newer version wrote it, or it is no state.
    """
    try:
        state = SessionState.model_validate_json(raw)
    except ValidationError as error:
        raise StateVersionError(
            "The session table holds a value this version cannot read. Is another application using the same "
            "NEXUS_ENRICHER_APP_ID on this broker?"
        ) from error
    if state.state_version > STATE_VERSION:
        raise StateVersionError(
            f"The session table holds state_version {state.state_version}; this version reads up to {STATE_VERSION}. "
            "Upgrade every enricher before one of them writes, or go back as docs/howto/upgrade.md says."
        )
    return state
