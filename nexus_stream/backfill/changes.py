"""What the answers of ``nexus backfill --again`` would change in the records, before they are sent.

From: the collected answers in store.py, and the session table. The check and the merge are the enricher's own, so the
enricher changes what is shown here. No personal data: only counts.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from nexus_stream.backfill.asking import Asking
from nexus_stream.backfill.intake import snapshot_of
from nexus_stream.backfill.known import CURRENT, states_of
from nexus_stream.backfill.records import Item
from nexus_stream.backfill.store import RunStore
from nexus_stream.contracts.headers import ANSWER_HEADER
from nexus_stream.contracts.limits import enricher_limits
from nexus_stream.contracts.prospect import Prospect
from nexus_stream.enrichment.readings import read_into
from nexus_stream.extraction.answered import findings_of
from nexus_stream.extraction.grounding import check
from nexus_stream.extraction.site_region import region_for
from nexus_stream.settings import Settings
from tables.session_state import SessionState, Verdict, decode_state

__all__ = ["Changes", "changes_of", "described"]

_KINDS: Final = ("gain", "lose", "change", "equal")


@dataclass(slots=True)
class Changes:
    """Counts of records.

    Attributes:
        records: Number of records that would be replaced.
        unchanged: Number of those in which no value changes.
        by_field: For each field of the prospect, the number of records that gain, lose or change its value, or keep it.
    """

    records: int = 0
    unchanged: int = 0
    by_field: dict[str, Counter[str]] = field(
        default_factory=lambda: {name: Counter() for name in Prospect.model_fields}
    )

    def add(self, before: Prospect, after: Prospect) -> None:
        """Count one record."""
        self.records += 1
        self.unchanged += before == after
        for name, kinds in self.by_field.items():
            kinds[_kind(getattr(before, name), getattr(after, name))] += 1


async def changes_of(store: RunStore, settings: Settings) -> Changes:
    """Count what the collected answers would change, and skip those that would change nothing any more.

    Raises:
        BrokerUnavailableError: the session table cannot be read.
    """
    states = await states_of(store, settings)
    changes = Changes()
    with store.transaction():
        for item in store.all_items("ready"):
            raw = states.get(item.session)
            state = None if raw is None else decode_state(orjson.dumps(raw))
            after = None if state is None else _after(store, settings, item, state)
            if state is None or after is None:
                # Erased, expired, read otherwise or gone on since it was asked.
                store.skip(item, CURRENT)
            else:
                changes.add(state.prospect or Prospect(), after)
    return changes


def _after(store: RunStore, settings: Settings, item: Item, state: SessionState) -> Prospect | None:
    """The prospect after the item's answer; None if the enricher will not take the answer."""
    assert item.answer is not None  # noqa: S101 - every ready item of such a run has one
    headers = (*item.headers, (ANSWER_HEADER, item.answer))
    snapshot = snapshot_of(settings.ingestion_topic, item, enricher_limits(settings), headers)
    findings = findings_of(item.answer)
    asking = Asking(settings, store)
    if findings is None or findings.made_by != asking.made_by:
        return None
    if state.judge(snapshot) is not Verdict.NEW or not state.is_read_again(snapshot):
        return None
    region = region_for(snapshot.conversation, settings)
    checked = check(findings, asking.turns(item), default_region=region)
    return read_into(state, snapshot, checked, asking.made_by, is_instead=False)[0].prospect


def _kind(before: Any, after: Any) -> str:
    if before == after:
        return "equal"
    # An empty list and the score of an empty record are no values either.
    return "gain" if not before else "lose" if not after else "change"


def described(changes: Changes) -> str:
    """The report as a table."""
    lines = [
        f"{changes.records:,} records would be replaced; in {changes.unchanged:,} of them no value changes",
        f"{'field':<16}" + "".join(f"{kind:>9}" for kind in _KINDS),
    ]
    for name, kinds in changes.by_field.items():
        lines.append(f"{name:<16}" + "".join(f"{kinds[kind]:>9,}" for kind in _KINDS))
    return "\n".join(lines)
