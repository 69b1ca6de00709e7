"""Redrive and discard dead letters from the console, with the functions of ``nexus dlq``.

The functions write to the topics and mark each letter. web/recorded_actions.py records each action.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from nexus_stream.console.web.access import Identity
from nexus_stream.console.web.context import Context
from nexus_stream.console.web.recorded_actions import End, recorded
from nexus_stream.dead_letters.filters import Filter
from nexus_stream.dead_letters.letter import Action
from nexus_stream.dead_letters.log import DeadLetterLog
from nexus_stream.dead_letters.redriving import RedriveReport, Selection, discard, redrive, survey
from nexus_stream.kafka.reading import Ends
from nexus_stream.kafka.sender import Sender
from nexus_stream.kafka.topics import require_topics
from nexus_stream.settings import Settings

__all__ = ["ActionName", "Wanted", "act", "plan"]

ActionName = Literal["redrive", "discard"]
_ACTIONS = {"redrive": Action.REDRIVEN, "discard": Action.DISCARDED}


@dataclass(frozen=True, slots=True)
class Wanted:
    """The letters that an operator chose: one by id, or all open ones of a reason."""

    letter_id: str | None = None
    reason: str | None = None

    @property
    def named(self) -> dict[str, str]:
        """The chosen fields, without empty ones."""
        values = {"id": self.letter_id, "reason": self.reason}
        return {name: value for name, value in values.items() if value is not None}

    @property
    def selection(self) -> Selection:
        """The selection for `redrive` and `discard`. A letter named by id may be redriven again."""
        return Selection(
            filter=Filter(
                ids=frozenset(filter(None, [self.letter_id])), reasons=frozenset(filter(None, [self.reason]))
            ),
            again=self.letter_id is not None,
        )


async def plan(settings: Settings, action: ActionName, wanted: Wanted) -> tuple[RedriveReport, Ends]:
    """Count the letters that `act` would process. Send nothing.

    Raises:
        BrokerUnavailableError: the broker does not answer.
        ConfigurationError: the topics are not as declared.
    """
    if action == "redrive":
        await require_topics(settings)
    async with DeadLetterLog(settings) as log:
        ends = await log.ends()
        return await survey(log, settings, ends, wanted.selection, _ACTIONS[action]), ends


async def act(context: Context, who: Identity, action: ActionName, wanted: Wanted, ends: Ends) -> RedriveReport:
    """Redrive or discard the letters up to ``ends``. The operator's confirmation did not count later ones.

    Raises:
        BrokerUnavailableError: finished letters are marked, the others are open.
    """
    settings, report = context.settings, RedriveReport()
    do = redrive if action == "redrive" else discard

    async def work(end: End) -> RedriveReport:
        try:
            async with DeadLetterLog(settings) as log, Sender(settings) as sender:
                await do(
                    log, sender, settings, ends, wanted.selection, report, by=who.name, now=lambda: datetime.now(UTC)
                )
        finally:
            # Also after an error: these letters were sent and marked.
            end |= {"letters": report.total, "left": (report.refused + report.not_ours) or None}
        return report

    return await recorded(context, who, action, work, **wanted.named)
