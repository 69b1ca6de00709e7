"""What each process says of itself every two seconds: the value of every record on ``nexus-status``.

From: gateway, enricher and sink (observability/status.py). To: the console. Key = process id; a null value says that
the process was told to stop and did. One that ends by an error of its own leaves its last record there, ``failed``.
Holds counts, times and offsets only, never a person's data. Everything is bounded, because whoever may write to the
topic chooses what the console reads: a record beyond a bound is refused when it is decoded.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["MAX_COUNT", "BudgetStanding", "Latency", "PartitionLag", "ProcessRole", "ProcessState", "ProcessStatus"]

ProcessRole = Literal["gateway", "enricher", "sink"]
ProcessState = Literal["starting", "running", "waiting", "rebalancing", "recovering", "stalled", "stopping"]

# What JSON's numbers hold exactly everywhere, and SQLite's and JavaScript's integers too.
MAX_COUNT = 2**53
_MAX_NAMES = 64
_MAX_PARTITIONS = 10_000

_Count = Annotated[int, Field(ge=0, le=MAX_COUNT)]
_Amount = Annotated[float, Field(ge=0, le=MAX_COUNT, allow_inf_nan=False)]
_Text = Annotated[str, Field(max_length=255)]
_Counts = Annotated[dict[Annotated[str, Field(max_length=64)], _Count], Field(max_length=_MAX_NAMES)]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)


class PartitionLag(_Record):
    """Records of one owned partition that are not finished, by what they wait for."""

    topic: _Text
    partition: _Count
    unread: Annotated[_Count, Field(description="not read yet")] = 0
    settling: Annotated[_Count, Field(description="read; their chats are not quiet yet, which is no delay")] = 0
    overdue: Annotated[_Count, Field(description="read and due, not finished")] = 0
    oldest_age_seconds: Annotated[
        _Amount, Field(description="age of the oldest record that is unread or overdue; 0 if there is none")
    ] = 0.0


class Latency(_Record):
    """Of what was finished in the last five minutes, in milliseconds; null when there was nothing."""

    p50_ms: _Amount | None = None
    p95_ms: _Amount | None = None

    @classmethod
    def of_seconds(cls, p50: float | None, p95: float | None) -> Latency:
        """From seconds."""
        return cls(
            p50_ms=None if p50 is None else round(p50 * 1000, 1), p95_ms=None if p95 is None else round(p95 * 1000, 1)
        )


class BudgetStanding(_Record):
    """One of the caps on what Claude may cost, as this worker keeps it."""

    period: Literal["hour", "day"]
    cap_usd: Annotated[_Amount, Field(description="this worker's part of the cap")]
    spent_usd: Annotated[_Amount, Field(description="spent by this worker in the last hour or day")]


class ProcessStatus(_Record):
    """One process as it was at ``updated_at_ms``. Counters are since ``started_at_ms``."""

    status_version: Literal[1] = 1
    process_id: _Text
    role: ProcessRole
    version: _Text
    host: Annotated[_Text, Field(description="hash of the host's name: tells hosts apart and names none")]
    pid: _Count
    state: Annotated[
        ProcessState | Literal["failed"], Field(description="failed: it ended by an error, and this is its last record")
    ]
    detail: Annotated[
        _Text | None, Field(description="what is waited for, why it is not running, or what it ended by")
    ] = None
    since_ms: Annotated[_Count, Field(description="since when that state")]
    started_at_ms: _Count
    updated_at_ms: _Count
    partitions: Annotated[tuple[PartitionLag, ...], Field(max_length=_MAX_PARTITIONS)] = ()
    lag_known: Annotated[bool, Field(description="whether the broker said where the partitions end")] = True
    outcomes: Annotated[_Counts, Field(description="records by how they ended")] = {}
    dead_letters: Annotated[_Counts, Field(description="by reason")] = {}
    latency: Annotated[Latency, Field(description="from settled (enricher), or from emitted (sink), to done")] = (
        Latency()
    )
    input_tokens: _Count = 0
    output_tokens: _Count = 0
    cost_usd: _Amount = 0.0
    budget_usd_per_day: Annotated[_Amount | None, Field(description="the cap of all workers together")] = None
    budgets: Annotated[tuple[BudgetStanding, ...], Field(max_length=2)] = ()
