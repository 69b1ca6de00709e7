"""Redriving and discarding from the console: what ``nexus dlq`` does, with the same functions.

From: views_letters.py and api.py. To: nexus_stream/dead_letters, which acts on the topics and leaves a mark on each
letter; web/recorded_actions.py, which writes it down.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from nexus_stream.console.web.access import Identity
from nexus_stream.console.web.context import Context
from nexus_stream.console.web.recorded_actions import End, audited
from nexus_stream.dead_letters.filters import Filter
from nexus_stream.dead_letters.letter import Action
from nexus_stream.dead_letters.log import DeadLetterLog
from nexus_stream.dead_letters.redriving import Report, Selection, discard, redrive, survey
from nexus_stream.kafka.reading import Ends
from nexus_stream.kafka.sender import Sender
from nexus_stream.kafka.topics import require_topics
from nexus_stream.settings import Settings

__all__ = ["ActionName", "Wanted", "act", "plan"]

ActionName = Literal["redrive", "discard"]
_ACTIONS = {"redrive": Action.REDRIVEN, "discard": Action.DISCARDED}


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which letters an operator chose: one by id, or all open ones of a reason."""

    letter_id: str | None = None
    reason: str | None = None

    @property
    def named(self) -> dict[str, str]:
        """What was chosen, without what was not."""
        values = {"id": self.letter_id, "reason": self.reason}
        return {name: value for name, value in values.items() if value is not None}

    @property
    def selection(self) -> Selection:
        """For the library. A letter named by id may have been redriven before: then it goes once more."""
        return Selection(
            filter=Filter(
                ids=frozenset(filter(None, [self.letter_id])), reasons=frozenset(filter(None, [self.reason]))
            ),
            again=self.letter_id is not None,
        )


async def plan(settings: Settings, action: ActionName, wanted: Wanted) -> tuple[Report, Ends]:
    """Count what `act` would do; sends nothing.

    Raises:
        BrokerUnavailableError: the broker does not answer.
        ConfigurationError: the topics are not as declared.
    """
    if action == "redrive":
        await require_topics(settings)
    async with DeadLetterLog(settings) as log:
        ends = await log.ends()
        return await survey(log, settings, ends, wanted.selection, _ACTIONS[action]), ends


async def act(context: Context, who: Identity, action: ActionName, wanted: Wanted, ends: Ends) -> Report:
    """Redrive or discard the letters up to ``ends``: later ones were not counted when the operator was asked.

    Raises:
        BrokerUnavailableError: what is done is marked, the rest is open.
    """
    settings, report = context.settings, Report()
    do = redrive if action == "redrive" else discard

    async def work(end: End) -> Report:
        try:
            async with DeadLetterLog(settings) as log, Sender(settings) as sender:
                await do(
                    log, sender, settings, ends, wanted.selection, report, by=who.name, now=lambda: datetime.now(UTC)
                )
        finally:
            # However it ended: these were sent and marked.
            end |= {"letters": report.total, "left": (report.refused + report.not_ours) or None}
        return report

    return await audited(context, who, action, work, **wanted.named)
