"""What each process says of itself every two seconds: the value of every record on ``nexus-status``.

From: gateway, enricher and sink (observability/status.py). To: the console. Key = process id; a null value says that
the process stopped in order. Holds counts, times and offsets only, never a person's data.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["Latency", "PartitionLag", "ProcessState", "ProcessStatus"]

ProcessState = Literal["starting", "running", "waiting", "rebalancing", "recovering", "stalled", "stopping"]

_Count = Annotated[int, Field(ge=0)]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)


class PartitionLag(_Record):
    """Records of one owned partition that are not finished, by what they wait for."""

    topic: str
    partition: _Count
    unread: Annotated[_Count, Field(description="not read yet")] = 0
    settling: Annotated[_Count, Field(description="read; their chats are not quiet yet, which is no delay")] = 0
    overdue: Annotated[_Count, Field(description="read and due, not finished")] = 0
    oldest_age_seconds: Annotated[
        float, Field(ge=0, description="age of the oldest record that is unread or overdue; 0 if there is none")
    ] = 0.0


class Latency(_Record):
    """Of what was finished in the last five minutes, in milliseconds; null when there was nothing."""

    p50_ms: float | None = None
    p95_ms: float | None = None


class ProcessStatus(_Record):
    """One process as it was at ``updated_at_ms``. Counters are since ``started_at_ms``."""

    status_version: Literal[1] = 1
    process_id: str
    role: Literal["gateway", "enricher", "sink"]
    version: str
    host: Annotated[str, Field(description="hash of the host's name: tells hosts apart and names none")]
    pid: _Count
    state: ProcessState
    detail: Annotated[str | None, Field(description="what is waited for, or why it is not running")] = None
    since_ms: Annotated[_Count, Field(description="since when that state")]
    started_at_ms: _Count
    updated_at_ms: _Count
    partitions: tuple[PartitionLag, ...] = ()
    lag_known: Annotated[bool, Field(description="whether the broker said where the partitions end")] = True
    outcomes: Annotated[dict[str, int], Field(description="records by how they ended")] = {}
    dead_letters: Annotated[dict[str, int], Field(description="by reason")] = {}
    latency: Annotated[Latency, Field(description="from settled (enricher), or from emitted (sink), to done")] = (
        Latency()
    )
    input_tokens: _Count = 0
    output_tokens: _Count = 0
    cost_usd: Annotated[float, Field(ge=0)] = 0.0
    budget_usd_per_day: float | None = None
    budget_usd_per_hour: float | None = None
