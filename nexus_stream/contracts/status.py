"""The status of a process, every two seconds: the value of every record on ``nexus-status``.

From: gateway, enricher and sink (observability/status.py). To: the console. Key = process id. A null value means that
the process was told to stop and stopped. A process that ends with an error leaves a last record, ``failed``. The record
holds only counts, times and offsets, never personal data. Every field is bounded, because any client with the Write
permission chooses what the console reads: the decoder refuses a record over a bound.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["MAX_COUNT", "BudgetStanding", "Latency", "PartitionLag", "ProcessRole", "ProcessState", "ProcessStatus"]

ProcessRole = Literal["gateway", "enricher", "sink"]
ProcessState = Literal["starting", "running", "waiting", "rebalancing", "recovering", "stalled", "stopping"]

# The largest integer that JSON, SQLite and JavaScript all hold exactly.
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
    """Unfinished records of one owned partition, by kind."""

    topic: _Text
    partition: _Count
    unread: Annotated[_Count, Field(description="not read yet")] = 0
    settling: Annotated[_Count, Field(description="read, but the chat is not quiet yet; not a delay")] = 0
    overdue: Annotated[_Count, Field(description="read and due, but not finished")] = 0
    oldest_age_seconds: Annotated[
        _Amount, Field(description="age of the oldest record that is unread or overdue; 0 if there is none")
    ] = 0.0


class Latency(_Record):
    """Latency of the work finished in the last five minutes, in milliseconds; null if there was none."""

    p50_ms: _Amount | None = None
    p95_ms: _Amount | None = None

    @classmethod
    def of_seconds(cls, p50: float | None, p95: float | None) -> Latency:
        """From seconds."""
        return cls(
            p50_ms=None if p50 is None else round(p50 * 1000, 1), p95_ms=None if p95 is None else round(p95 * 1000, 1)
        )


class BudgetStanding(_Record):
    """One of this worker's caps on spending on Claude."""

    period: Literal["hour", "day"]
    cap_usd: Annotated[_Amount, Field(description="this worker's part of the cap")]
    spent_usd: Annotated[_Amount, Field(description="spent by this worker in the last hour or day")]


class ProcessStatus(_Record):
    """The status of one process at ``updated_at_ms``. Counters start at ``started_at_ms``."""

    status_version: Literal[1] = 1
    process_id: _Text
    role: ProcessRole
    version: _Text
    host: Annotated[_Text, Field(description="hash of the host's name")]
    pid: _Count
    state: Annotated[
        ProcessState | Literal["failed"], Field(description="failed: ended with an error; this is the last record")
    ]
    detail: Annotated[
        _Text | None, Field(description="what the process waits for, why it does not run, or the error that ended it")
    ] = None
    since_ms: Annotated[_Count, Field(description="start of that state, Unix milliseconds")]
    started_at_ms: _Count
    updated_at_ms: _Count
    partitions: Annotated[tuple[PartitionLag, ...], Field(max_length=_MAX_PARTITIONS)] = ()
    lag_known: Annotated[bool, Field(description="whether the broker reported the partitions' end offsets")] = True
    outcomes: Annotated[_Counts, Field(description="records by outcome")] = {}
    dead_letters: Annotated[_Counts, Field(description="by reason")] = {}
    placeholder_ids: Annotated[
        _Counts, Field(description="ids such as `undefined`, which were read as missing, by field")
    ] = {}
    latency: Annotated[Latency, Field(description="from settled (enricher), or from emitted (sink), to done")] = (
        Latency()
    )
    input_tokens: _Count = 0
    output_tokens: _Count = 0
    cost_usd: _Amount = 0.0
    budget_usd_per_day: Annotated[_Amount | None, Field(description="the cap of all workers together")] = None
    budgets: Annotated[tuple[BudgetStanding, ...], Field(max_length=2)] = ()
