"""Whether a worker lives, is ready, and moves: the watchdog's loop, the reasons, and the metrics that show them.

From: the stage, the broker's word on offsets, and Faust's state, passed in. To: ``/live``, ``/ready`` and ``/metrics``
of worker.py, and the status record. *Ready*: it processes now, and what it needs answers. *Live*: no partition stands
still without a reason; starting again may help, and nothing else is a reason to.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import structlog

from nexus_stream.contracts.status import ProcessRole
from nexus_stream.delivery.watchdog import Progress
from nexus_stream.errors import StalledError
from nexus_stream.observability.lag import StageLag
from nexus_stream.observability.metrics import ProcessStateCollector, announce_build, shown
from nexus_stream.observability.metrics_stage import LagCollector
from nexus_stream.settings import Settings
from nexus_stream.worker.status import state_of

if TYPE_CHECKING:
    from nexus_stream.delivery.stage import Stage

__all__ = ["WorkerHealth"]

_log = structlog.get_logger(__name__)

WATCH_INTERVAL_SECONDS = 5.0


class WorkerHealth:
    """The health of one worker.

    Args:
        settings: Broker, and how long nothing may move.
        role: Which worker.
        stage: What it runs.
        group: Its consumer group.
        not_reading_because: Why it does not process now by Faust's state; None if it does.
        needs: What of that the stage may wait for it cannot do without.
        on_fatal: Called with an error that stops the worker, if it is to stop when it stands still.
    """

    def __init__(
        self,
        settings: Settings,
        role: ProcessRole,
        stage: Stage,
        *,
        group: str,
        not_reading_because: Callable[[], str | None],
        needs: Sequence[str],
        on_fatal: Callable[[BaseException], None],
    ) -> None:
        self._settings = settings
        self._role: ProcessRole = role
        self._stage = stage
        self._not_reading_because = not_reading_because
        self._needs = needs
        self._on_fatal = on_fatal
        self._stalled_seconds: float | None = None
        self._progress = Progress(stalled_after_seconds=settings.watchdog_seconds, now=stage.clock.monotonic())
        self.lag = StageLag(settings, stage, group)

    async def run(self) -> None:
        """Watch, and show the metrics, until cancelled."""
        announce_build(self._role)
        state = ProcessStateCollector(self._role, lambda: state_of(self._stage, self.not_processing_because()).state)
        asking = asyncio.create_task(self.lag.run(), name="offsets")
        try:
            with shown(state, LagCollector(self._role, self.lag)):
                while True:
                    await self._stage.clock.sleep(WATCH_INTERVAL_SECONDS)
                    if asking.done():
                        # It never ends by itself: what ended it is not to be lost.
                        asking.result()
                    self.observe()
        finally:
            asking.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await asking

    def observe(self) -> None:
        """Look whether every partition moves."""
        stage = self._stage
        excused = stage.waiting_for is not None or self._not_reading_because() is not None
        standing = self.lag.standing(excused=excused)
        stalled = self._progress.observe(standing, stage.clock.monotonic())
        if stalled is not None and self._stalled_seconds is None:
            _log.error(
                "no progress although there is something to read",
                seconds=stalled,
                lag=standing.lag,
                where=self._where(),
            )
        self._stalled_seconds = stalled
        if stalled is not None and self._settings.watchdog_exit:
            problem = f"nothing moved for {stalled:.0f} s with {standing.lag} records of lag ({self._where()})"
            self._on_fatal(StalledError(problem))

    def not_processing_because(self) -> str | None:
        """Why it does not process now; None if it does, or waits for somebody to answer."""
        if self._stalled_seconds is not None:
            seconds = f"{self._stalled_seconds:.0f} s"
            return f"no progress for {seconds} although there is something to read ({self._where()})"
        return self._not_reading_because()

    def not_ready_because(self) -> str | None:
        """Why it is not ready; None if it is."""
        reason = self.not_processing_because()
        if reason is None:
            waited_for = [what for what in self._needs if self._stage.is_waiting_for(what)]
            reason = f"waiting for {waited_for[0]}" if waited_for else None
        return reason

    def not_live_because(self) -> str | None:
        """Why it should be started again; None if there is no reason to."""
        return self.not_processing_because() if self._stalled_seconds is not None else None

    def _where(self) -> str:
        return "partition " + ", ".join(str(partition) for _, partition in self._progress.stalled)
