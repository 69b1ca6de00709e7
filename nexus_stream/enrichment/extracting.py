"""The retry loop around an extractor: it turns settled work into an intent.

During an outage it retries without a limit. A snapshot that fails again and again while others succeed becomes a dead
letter. The offline rules read it instead, so that no contact is lost.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence

from nexus_stream.contracts.headers import ANSWER_HEADER
from nexus_stream.delivery.backoff import backoff_seconds
from nexus_stream.delivery.dead_letters import letter_id
from nexus_stream.delivery.settling import Snapshot, Work
from nexus_stream.delivery.stage import Stage
from nexus_stream.enrichment.intents import Abandon, GiveUp, Store, WorkIntent
from nexus_stream.errors import (
    BudgetExhaustedError,
    BudgetReservedError,
    ConfigurationError,
    NotWantedError,
    PermanentError,
    Reason,
    RetryableError,
)
from nexus_stream.extraction.answered import Answered
from nexus_stream.extraction.claude.wanted import wanted_while
from nexus_stream.extraction.consent import NoExtraction
from nexus_stream.extraction.extractor import Extractor, HasSubstitute, Turn
from nexus_stream.extraction.grounding import check
from nexus_stream.extraction.site_region import region_for
from nexus_stream.host.log import get_logger
from nexus_stream.settings import Settings

__all__ = ["Extracting"]

_log = get_logger(__name__)

# The name under which the stage waits for the budget. Otherwise it waits under the extractor's name.
_BUDGET = "budget"
_NOT_READ = NoExtraction()


class Extracting:
    """Calls one extractor, for all sessions.

    Args:
        stage: Gives the clock and the assignment; notes the services that work waits for.
        settings: Regions, consent and attempts.
        extractor: Reads conversations.
    """

    def __init__(self, stage: Stage, *, settings: Settings, extractor: Extractor) -> None:
        self._stage = stage
        self._settings = settings
        self._extractor = extractor
        # Successes so far. If a session keeps failing while this grows, the session is at fault.
        self._successes = 0
        # Waiting work, by the service it waits for. Cheap work that fits the budget proves nothing about other work.
        self._waiting: dict[str, set[int]] = {}

    async def until_decided(self, work: Work) -> WorkIntent | None:
        """Call the extractor until it answers, or until the snapshot itself is the cause of the failures.

        Returns:
            The intent. None if the partition is revoked or the stage is stopping.

        Raises:
            ConfigurationError: a setting is wrong, and no snapshot caused the error.
        """
        try:
            return await self._until_decided(work)
        finally:
            self._waits_for(work, None)

    async def _until_decided(self, work: Work) -> WorkIntent | None:
        snapshot = work.snapshot
        turns = [Turn(message.role, message.content) for message in snapshot.messages]
        successes_at_first_failure: int | None = None
        failures = 0
        extractor = self._extractor_for(snapshot)
        region = region_for(snapshot.conversation, self._settings)
        tracing = self._stage.tracing
        while await self._stage.still_owns(work.hold):
            if work.cancelled:
                return Abandon(work, snapshot)
            work.attempts += 1
            try:
                with wanted_while(lambda: self._is_wanted(work)):
                    if tracing is None:
                        findings = await extractor.extract(turns, region)
                    else:
                        with tracing.extracting(snapshot.record):
                            findings = await extractor.extract(turns, region)
                checked = check(findings, turns, default_region=region)
            except NotWantedError:
                # The call may have belonged to another work that shared it. Then this work calls again, but others run
                # first: an extractor may raise this error without a pause.
                work.attempts -= 1
                await asyncio.sleep(0)
            except RetryableError as error:
                self._waits_for(work, _waits_for_what(error, extractor.labels.extractor))
                failures += 1
                work.is_tried_again = True
                if error.is_general:
                    # Every record would have failed: this must not use up this record's attempts.
                    work.attempts -= 1
                if successes_at_first_failure is None:
                    successes_at_first_failure = self._successes
                others_succeed = self._successes > successes_at_first_failure
                if not error.is_general and others_succeed and work.attempts >= self._settings.claude_max_attempts:
                    exhausted = PermanentError(
                        f"failed {work.attempts} times while others succeeded; last: {error}",
                        reason=Reason.ATTEMPTS_EXHAUSTED,
                    )
                    return await self._given_up(work, turns, exhausted)
                pause = backoff_seconds(failures, error.retry_after_seconds, random=random.random)
                if await self._stage.clock.wait(self._stage.draining, pause):
                    return None
            except PermanentError as error:
                return await self._given_up(work, turns, error)
            except ConfigurationError:
                raise
            except Exception as error:
                _log.exception("extraction failed, record dead-lettered", record=letter_id(snapshot.record))
                internal = PermanentError(type(error).__name__, reason=Reason.INTERNAL_ERROR)
                return await self._given_up(work, turns, internal)
            else:
                if findings.made_by is None and not findings.cached:
                    # The extractor itself answered. A cached answer, or another extractor's, proves nothing about it.
                    self._successes += 1
                    self._answers_again(extractor.labels.extractor)
                return Store(work, snapshot, findings, checked)
        return None

    async def _given_up(self, work: Work, turns: Sequence[Turn], error: PermanentError) -> GiveUp:
        """Give a snapshot up, with what the offline rules read in it."""
        snapshot = work.snapshot
        region = region_for(snapshot.conversation, self._settings)
        instead: Store | None = None
        if isinstance(self._extractor, HasSubstitute):
            try:
                findings = await self._extractor.read_instead(turns, error.reason, region)
                checked = check(findings, turns, default_region=region)
                instead = Store(work, snapshot, findings, checked)
            except Exception:
                _log.exception("the rules failed too, no record", record=letter_id(snapshot.record))
        return GiveUp(work, snapshot, error, work.attempts, instead)

    def _is_wanted(self, work: Work) -> bool:
        assignment = self._stage.assignment
        return assignment.owns(work.hold) and assignment.is_confirmed and not work.cancelled

    def _waits_for(self, work: Work, what: str | None) -> None:
        """Note the service that the work waits for now. The stage waits for a service while any work does."""
        for other, works in list(self._waiting.items()):
            works.discard(id(work))
            if not works and other != what:
                self._answers_again(other)
        if what is not None and self._stage.assignment.owns(work.hold):
            self._waiting.setdefault(what, set()).add(id(work))
            self._stage.waits_for(what)

    def _answers_again(self, what: str) -> None:
        self._waiting.pop(what, None)
        self._stage.waits_no_longer(what)

    def _extractor_for(self, snapshot: Snapshot) -> Extractor:
        refused = snapshot.conversation.metadata.consent is False
        if refused and self._settings.consent_respected:
            return _NOT_READ
        answer = snapshot.record.header(ANSWER_HEADER)
        if answer is not None:
            # A backfill has already paid for this answer. It is checked like any other.
            return Answered(answer, snapshot.digest, self._extractor.labels)
        return self._extractor


def _waits_for_what(error: RetryableError, extractor_name: str) -> str | None:
    if isinstance(error, BudgetReservedError):
        # Running calls end soon and make room, so the operator needs no report.
        return None
    return _BUDGET if isinstance(error, BudgetExhaustedError) else extractor_name
