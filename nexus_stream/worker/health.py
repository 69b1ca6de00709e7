"""A worker's health: liveness, readiness and progress, with their reasons and metrics.

To: ``/live``, ``/ready`` and ``/metrics`` (app.py), and the status record. *Ready*: the worker processes records now,
and every dependency that it needs answers. *Live*: no partition is stalled without a reason. A restart may fix a stall,
and nothing else.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from nexus_stream.contracts.status import ProcessRole
from nexus_stream.delivery.watchdog import Progress
from nexus_stream.errors import StalledError
from nexus_stream.host.log import get_logger
from nexus_stream.observability.lag import StageLag
from nexus_stream.observability.metrics import ProcessStateCollector, announce_build, shown
from nexus_stream.observability.metrics_reading import ReadingCollector
from nexus_stream.observability.metrics_stage import LagCollector
from nexus_stream.settings import Settings
from nexus_stream.worker.status import state_of

if TYPE_CHECKING:
    from nexus_stream.delivery.stage import Stage

__all__ = ["WorkerHealth"]

_log = get_logger(__name__)

WATCH_INTERVAL_SECONDS = 5.0


class WorkerHealth:
    """The health of one worker.

    Args:
        settings: Broker, and the watchdog's time limit.
        role: The worker's role.
        stage: The worker's stage.
        group: Its consumer group.
        not_reading_because: Why the worker does not read now, by Faust's state; None if it reads.
        needs: Dependencies that must answer before the worker is ready.
        on_fatal: Called with the error that stops a stalled worker, if `watchdog_exit` is set.
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
            reading = () if self._role == "sink" else (ReadingCollector(self._role, self._stage.facts),)
            with shown(state, LagCollector(self._role, self.lag), *reading):
                while True:
                    await self._stage.clock.sleep(WATCH_INTERVAL_SECONDS)
                    if asking.done():
                        # The task never ends by itself: raise the error that ended it.
                        asking.result()
                    self.observe()
        finally:
            asking.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await asking

    def observe(self) -> None:
        """Check the progress of every partition."""
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
        """Why the worker does not process now; None if it does, or waits for a dependency."""
        if self._stalled_seconds is not None:
            seconds = f"{self._stalled_seconds:.0f} s"
            return f"no progress for {seconds} although there is something to read ({self._where()})"
        return self._not_reading_because()

    def not_ready_because(self) -> str | None:
        """Why the worker is not ready; None if it is."""
        reason = self.not_processing_because()
        if reason is None:
            waited_for = [what for what in self._needs if self._stage.is_waiting_for(what)]
            reason = f"waiting for {waited_for[0]}" if waited_for else None
        return reason

    def not_live_because(self) -> str | None:
        """Why a supervisor should restart the worker; None if it should not."""
        return self.not_processing_because() if self._stalled_seconds is not None else None

    def _where(self) -> str:
        return "partition " + ", ".join(str(partition) for _, partition in self._progress.stalled)
