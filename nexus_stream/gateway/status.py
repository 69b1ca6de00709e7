"""The gateway's report on the status topic."""

from __future__ import annotations

import os
import time

from nexus_stream import __version__
from nexus_stream.contracts.status import Latency, ProcessStatus
from nexus_stream.gateway.app import Gateway
from nexus_stream.gateway.publisher import Publisher
from nexus_stream.observability.metrics_reading import ignored_by_field
from nexus_stream.observability.status import StateClock, StatusReport, host_name
from nexus_stream.settings import Settings


def gateway_status(settings: Settings, gateway: Gateway, publisher: Publisher, key: str) -> StatusReport:
    """Make the function that reports the gateway's status."""
    started_at_ms = time.time_ns() // 1_000_000
    state = StateClock()

    async def report() -> ProcessStatus:
        now_ms = time.time_ns() // 1_000_000
        if publisher.connected:
            state.note("running", None, now_ms)
        else:
            state.note("waiting", "broker", now_ms)
        p50, p95 = gateway.facts.percentiles((0.5, 0.95), since=time.monotonic() - settings.alert_window_seconds)
        return ProcessStatus(
            process_id=key,
            role="gateway",
            version=__version__,
            host=host_name(),
            pid=os.getpid(),
            state=state.state,
            detail=state.detail,
            since_ms=state.since_ms,
            started_at_ms=started_at_ms,
            updated_at_ms=now_ms,
            outcomes=dict(gateway.outcomes),
            placeholder_ids=ignored_by_field(gateway.facts.ignored),
            latency=Latency.of_seconds(p50, p95),
        )

    return report
