"""The next state of a session: after an extraction, another telling, a fingerprint or a dead letter. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from nexus_stream.contracts.headers import CORRELATION_ID_HEADER
from nexus_stream.contracts.prospect import ExtractionFacts, Prospect
from nexus_stream.contracts.said import words_hashes
from nexus_stream.delivery.ordering import Relation, joined, missing_steps, relate
from nexus_stream.delivery.received import Received
from nexus_stream.delivery.settling import MAX_FINGERPRINTS, Snapshot, Work
from nexus_stream.errors import Reason
from tables.session_state import (
    STATE_VERSION,
    Counters,
    Dead,
    Reading,
    ReadInstead,
    SessionState,
    identity_after,
    words_hash,
)

__all__ = [
    "after_dead_letter",
    "after_extraction",
    "after_fingerprints",
    "after_retelling",
    "correlation_id_of",
    "joined_fingerprints",
]

# Hashes of past histories that a state keeps.
_MAX_PAST = 64
# Snapshots that a state remembers because the offline rules read them instead of a model.
_MAX_READ_INSTEAD = 16


def after_extraction(
    previous: SessionState | None,
    work: Work,
    prospect: Prospect,
    extraction: ExtractionFacts,
    *,
    base: Reading | None = None,
    called: bool,
    now_ms: int,
) -> SessionState:
    """The state after an extraction.

    Args:
        previous: The session's state before, if any.
        work: The extracted work, with the fingerprints seen meanwhile.
        prospect: The cumulative record.
        extraction: How the record was made.
        base: The record without what the offline rules read instead of a model; None if it has nothing of that.
        called: Whether a model was called.
        now_ms: Unix milliseconds.
    """
    snapshot = work.snapshot
    conversation = snapshot.conversation
    before = previous or SessionState(session_id=conversation.session_id, tenant_id=conversation.tenant_id)
    return before.model_copy(
        update={
            **_told(before, work, now_ms),
            "state_version": STATE_VERSION,
            "status": "enriched",
            "past": _past(before, snapshot),
            "prospect": prospect,
            "extraction": extraction,
            "base": base,
            "read_instead": () if base is None else _read_instead(before, snapshot, extraction),
            "dead": _dead(before, snapshot, extraction),
            "counters": Counters(
                snapshots=before.counters.snapshots + work.snapshots,
                calls=before.counters.calls + (1 if called else 0),
                input_tokens=before.counters.input_tokens + extraction.input_tokens,
                output_tokens=before.counters.output_tokens + extraction.output_tokens,
                cost_usd=before.counters.cost_usd + extraction.cost_usd,
            ),
            "first_seen_ms": before.first_seen_ms or now_ms,
        }
    )


def _dead(before: SessionState, snapshot: Snapshot, extraction: ExtractionFacts) -> Dead | None:
    """A letter is remembered, so that its redelivery costs no call, until a model reads it."""
    dead = before.dead
    if dead is None or not dead.holds(snapshot):
        return dead
    return dead if dead.is_read and extraction.model is None else None


def _read_instead(before: SessionState, snapshot: Snapshot, extraction: ExtractionFacts) -> tuple[ReadInstead, ...]:
    """What no model has read yet after an extraction."""
    unread = before.read_instead if extraction.model is None else before.unread_after(snapshot)
    if not before.digest or before.begins_after(snapshot) or _is_related(before, snapshot):
        return unread
    return tuple(one.model_copy(update={"is_past": True}) for one in unread)


def after_retelling(previous: SessionState, work: Work, *, now_ms: int) -> SessionState:
    """The state after a snapshot in which the user said nothing new.

    Args:
        previous: The state before.
        work: The settled work, with the fingerprints seen meanwhile.
        now_ms: Unix milliseconds.
    """
    counters = previous.counters.model_copy(update={"snapshots": previous.counters.snapshots + work.snapshots})
    return previous.model_copy(update={**_told(previous, work, now_ms), "counters": counters})


def _told(before: SessionState, work: Work, now_ms: int) -> dict[str, Any]:
    """The fields that say which snapshot is the newest, and what the user said up to there."""
    snapshot = work.snapshot
    if before.begins_after(snapshot) or before.is_old_telling(snapshot):
        return _told_late(before, work, now_ms)
    metadata = snapshot.conversation.metadata
    fingerprints = joined_fingerprints(before.fingerprints, work.fingerprints)
    identity = identity_after(before.identity, metadata)
    if before.is_read_again(snapshot):
        # An old telling: what came since stays the current one.
        fingerprints = joined_fingerprints(tuple(work.fingerprints), before.fingerprints)
        identity = before.identity or identity
    return {
        "fingerprints": fingerprints,
        "said": joined(before.said, snapshot.said),
        "consent": metadata.consent,
        "turns": snapshot.turns,
        "digest": snapshot.digest,
        # Strictly later than the record before, whatever clocks say: readers keep the later record.
        "snapshot_at_ms": max(snapshot.snapshot_at_ms, before.snapshot_at_ms + 1 if before.digest else 0),
        "source_partition": snapshot.record.partition,
        "source_offset": snapshot.record.offset,
        "is_returned": snapshot.is_returned,
        "correlation_id": correlation_id_of(snapshot.record),
        "enqueued_at": metadata.enqueued_at,
        "first_url": before.first_url or metadata.url,
        "cut": snapshot.conversation.cut,
        "left_out": dict(snapshot.conversation.left_out),
        "identity": identity,
        "enriched_at": _later_timestamp(before.enriched_at, now_ms),
        "last_seen_ms": now_ms,
    }


def _told_late(before: SessionState, work: Work, now_ms: int) -> dict[str, Any]:
    """The same for older words that arrived late, or are read again: the newest snapshot stays what it was."""
    record = work.snapshot.record
    is_unrelated = relate(work.snapshot, before) is Relation.EARLIER
    return {
        "fingerprints": joined_fingerprints(tuple(work.fingerprints), before.fingerprints),
        # `joined` would forget the words of this state if the others are of a history that ended.
        "said": before.said if is_unrelated else joined(before.said, work.snapshot.said),
        "identity": before.identity or identity_after(None, work.snapshot.conversation.metadata),
        "snapshot_at_ms": before.snapshot_at_ms + 1,
        # A second delivery finds itself here.
        "linked_at": (record.partition, record.offset),
        "enriched_at": _later_timestamp(before.enriched_at, now_ms),
        "last_seen_ms": now_ms,
    }


def _past(before: SessionState, snapshot: Snapshot) -> tuple[str, ...]:
    """The histories that the site restarted; with the one before, if this snapshot is unrelated to it."""
    if _is_related(before, snapshot):
        return before.past
    return _with_past(before, words_hashes(before.said, before.consent))


def _is_related(before: SessionState, snapshot: Snapshot) -> bool:
    known, new = before.said, snapshot.said
    return missing_steps(new, known) is not None or missing_steps(known, new) is not None


def _with_past(before: SessionState, hashes: Sequence[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*before.past, *hashes)))[-_MAX_PAST:]


def after_fingerprints(
    previous: SessionState, seen: Sequence[str], record: Received, *, now_ms: int, correlation_id: str | None = None
) -> SessionState:
    """The state after a known snapshot arrived with new fingerprints.

    Args:
        previous: The state before.
        seen: The new fingerprints, the current one last.
        record: The record that brought them. If it is read again, the state is emitted again.
        now_ms: Unix milliseconds.
        correlation_id: The message id of the snapshot that brought them.
    """
    return previous.model_copy(
        update={
            "fingerprints": joined_fingerprints(previous.fingerprints, seen),
            "linked_at": (record.partition, record.offset),
            "correlation_id": correlation_id or previous.correlation_id,
            "enriched_at": _later_timestamp(previous.enriched_at, now_ms),
            "last_seen_ms": now_ms,
        }
    )


def after_dead_letter(
    previous: SessionState | None,
    snapshot: Snapshot,
    reason: Reason,
    attempts: int,
    *,
    asked: str = "",
    is_read: bool = False,
    now_ms: int,
) -> SessionState:
    """The state after a snapshot was given up. Everything known before stays.

    Args:
        previous: The state before. If the offline rules read the snapshot instead, the state with their reading.
        snapshot: The snapshot.
        reason: Why no model read it.
        attempts: How often one was asked.
        asked: Labels of the extractor that was asked.
        is_read: Whether the offline rules read it instead.
        now_ms: Unix milliseconds.
    """
    conversation = snapshot.conversation
    before = previous or SessionState(
        session_id=conversation.session_id, tenant_id=conversation.tenant_id, first_seen_ms=now_ms
    )
    dead = Dead(
        digest=snapshot.digest,
        words=words_hash(snapshot),
        partition=snapshot.record.partition,
        offset=snapshot.record.offset,
        reason=reason,
        attempts=attempts,
        is_read=is_read,
        asked=asked,
    )
    if is_read:
        is_past = relate(snapshot, before) is Relation.EARLIER
        one = ReadInstead(digest=dead.digest, words=dead.words, is_past=is_past)
        read_instead = (*before.unread_after(snapshot), one)[-_MAX_READ_INSTEAD:]
        return before.model_copy(update={"dead": dead, "read_instead": read_instead})
    past = _with_past(before, [words_hash(snapshot)])
    return before.model_copy(update={"status": "dead", "dead": dead, "past": past, "last_seen_ms": now_ms})


def correlation_id_of(record: Received) -> str | None:
    """The message id that the gateway answered with, if the record has one."""
    correlation_id = record.header(CORRELATION_ID_HEADER)
    return correlation_id.decode("utf-8", "replace")[:64] if correlation_id else None


def joined_fingerprints(known: tuple[str, ...], seen: Sequence[str]) -> tuple[str, ...]:
    """The bounded set of fingerprints, the current one last."""
    joined = [fingerprint for fingerprint in known if fingerprint not in seen] + list(seen)
    return tuple(joined[-MAX_FINGERPRINTS:])


def _later_timestamp(previous: str | None, now_ms: int) -> str:
    """``now_ms`` as ISO 8601 with milliseconds, at least one millisecond after the previous time."""
    if previous is not None:
        now_ms = max(now_ms, round(datetime.fromisoformat(previous).timestamp() * 1000) + 1)
    return datetime.fromtimestamp(now_ms / 1000, UTC).isoformat(timespec="milliseconds")
