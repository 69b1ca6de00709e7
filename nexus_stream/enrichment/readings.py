"""Put what was read in a snapshot into its session's record. Pure.

A model's answers are merged. What the offline rules read instead of a model only fills gaps, and the state keeps the
record without it (`SessionState.base`). A model's answers go into that one too. When a model has read all that the
rules read in its place, that one becomes the record, so that no value of the rules stays. An answer of
``nexus backfill --again`` replaces the record if its snapshot has all that the user said.
"""

from __future__ import annotations

from nexus_stream.delivery.settling import Snapshot
from nexus_stream.extraction.extractor import MadeBy
from nexus_stream.extraction.grounding import Checked
from nexus_stream.extraction.merging import fill, merge, merge_older
from tables.session_state import Reading, SessionState, as_reading

__all__ = ["read_into"]


def read_into(
    known: SessionState | None, snapshot: Snapshot, checked: Checked, made_by: MadeBy, *, is_instead: bool
) -> tuple[Reading, Reading | None]:
    """The record after one more extraction.

    Args:
        known: The session's state; None for a new session.
        snapshot: The snapshot that was read.
        checked: The checked findings.
        made_by: Who found them.
        is_instead: Whether the offline rules read it instead of a model.

    Returns:
        The record, and the record without what the rules read instead of a model; None if it has nothing of that.
    """
    now = as_reading(known)
    base = known.base if known is not None else None
    is_older = known is not None and known.begins_after(snapshot)
    is_whole = known is None or known.covers(snapshot)
    if known is not None and known.is_read_again(snapshot) and known.is_all_in(snapshot) and not is_instead:
        return _newer(Reading(), checked), None
    is_asked_again = known is not None and known.is_asked_again(snapshot)
    is_last = known is None or not known.unread_after(snapshot)
    if is_instead:
        without = now if base is None else base
        # If the rules read all of their words again, their earlier reading goes.
        before = without if is_whole and is_last else now
        if is_older:
            return _older(before, checked), without
        prospect, signals = fill(before.prospect, before.signals, checked)
        return Reading(prospect=prospect, signals=signals), without
    put = _older if is_older else _newer
    if base is None:
        return put(now, checked), None
    if made_by.model is not None and is_last and (is_whole or is_asked_again):
        return put(base, checked), None
    # The words that the rules read are not all in this snapshot.
    return put(now, checked), put(base, checked)


def _newer(known: Reading, checked: Checked) -> Reading:
    prospect, signals = merge(known.prospect, known.signals, checked)
    return Reading(prospect=prospect, signals=signals)


def _older(known: Reading, checked: Checked) -> Reading:
    prospect, signals = merge_older(known.prospect, known.signals, checked)
    return Reading(prospect=prospect, signals=signals)
