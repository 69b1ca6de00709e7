"""``nexus capacity``: compute the needs of a load with the formulas of docs/reference/capacity.md.

The load comes from the command line. Settle times, retention, partitions and prices come from the settings. The command
contacts no broker and no database. Estimates are marked with ``~``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

import click

from nexus_stream.extraction.claude.prices import TokenCounts, cost_usd, load_prices, price_of
from nexus_stream.settings import Settings, load_settings

__all__ = ["Load", "Needs", "calls_per_chat", "command", "needs_of"]

# Spread of the gaps between a person's turns around their median, as in benchmarks/claude_cost.py. The formula
# reproduces the calls per chat that were measured there (1.63, 5.42, 5.99, 1.16, 3.50) within 2 %.
_GAP_SIGMA = 0.6
# Tokens of one call, measured there. The instructions come from the prompt cache; question and answer do not.
_CALL_TOKENS = TokenCounts(input_tokens=400, output_tokens=120, cache_read_tokens=2436)
# Size of a session's state in the changelog, and of an enriched record.
_RECORD_BYTES = 2048
# A pending session keeps its newest snapshot and the replaced one.
_SNAPSHOTS_PENDING = 2
_GIB = 1024**3


@dataclass(frozen=True, slots=True)
class Load:
    """The load of the busiest hour. ``turns`` counts the user's turns. Each turn posts the whole conversation."""

    chats_per_hour: float
    turns: int
    gap_seconds: float
    conversation_bytes: int
    call_seconds: float
    enrichers: int = 1


@dataclass(frozen=True, slots=True)
class Needs:
    """The needs of a load: totals, or values per worker if the name says so."""

    posts_per_second: float
    calls_per_chat: float
    settled_per_second: float
    pending_sessions_per_worker: int
    pending_bytes_per_worker: int
    requests_per_minute: float
    concurrency_per_worker: int
    ingestion_gib: float
    enriched_gib: float
    usd_per_1000_chats: float


def calls_per_chat(turns: int, gap_seconds: float, settle_seconds: float) -> float:
    """Return the extractions of one chat: one at its end, and one for each gap longer than the settle time."""
    if gap_seconds <= 0 or turns <= 1:
        return 1.0
    if settle_seconds <= 0:
        return float(turns)
    long_gap = 1 - NormalDist().cdf(math.log(settle_seconds / gap_seconds) / _GAP_SIGMA)
    return 1 + (turns - 1) * long_gap


def needs_of(load: Load, settings: Settings) -> Needs:
    """Apply the formulas in the order of capacity.md."""
    chats_per_second = load.chats_per_hour / 3600
    posts_per_second = chats_per_second * load.turns
    calls = calls_per_chat(load.turns, load.gap_seconds, settings.settle_seconds)
    settled_per_second = chats_per_second * calls
    # Little's law. A chat with only short gaps stays pending, at most for the maximum wait.
    burst_seconds = settings.settle_seconds + load.gap_seconds * (load.turns / calls - 1)
    pending_seconds = min(burst_seconds, settings.max_wait_seconds) + load.call_seconds
    pending = math.ceil(settled_per_second / load.enrichers * pending_seconds)
    price = price_of(settings.claude_model, load_prices(settings.claude_prices_file))
    replicas = settings.topic_replication_factor
    return Needs(
        posts_per_second=posts_per_second,
        calls_per_chat=calls,
        settled_per_second=settled_per_second,
        pending_sessions_per_worker=pending,
        pending_bytes_per_worker=pending * load.conversation_bytes * _SNAPSHOTS_PENDING,
        requests_per_minute=settled_per_second * 60,
        concurrency_per_worker=math.ceil(settled_per_second * load.call_seconds / load.enrichers),
        # Each post carries the conversation so far: on average half of the whole conversation.
        ingestion_gib=posts_per_second
        * (load.conversation_bytes / 2)
        * settings.ingestion_retention_hours
        * 3600
        * replicas
        / _GIB,
        enriched_gib=settled_per_second * _RECORD_BYTES * settings.enriched_retention_hours * 3600 * replicas / _GIB,
        usd_per_1000_chats=1000 * calls * cost_usd(price, _CALL_TOKENS),
    )


@click.command(name="capacity")
@click.option(
    "--chats-per-hour",
    type=click.FloatRange(min=0, min_open=True),
    required=True,
    help="Number of chats in the busiest hour.",
)
@click.option("--turns", type=click.IntRange(min=1), default=6, show_default=True, help="User's turns in a chat.")
@click.option(
    "--gap-seconds",
    type=click.FloatRange(min=0),
    default=20.0,
    show_default=True,
    help="Median time between two turns.",
)
@click.option(
    "--conversation-kb",
    type=click.FloatRange(min=0.1),
    default=4.0,
    show_default=True,
    help="Size of a conversation at its end.",
)
@click.option(
    "--call-seconds", type=click.FloatRange(min=0), default=1.5, show_default=True, help="Time of one call to Claude."
)
@click.option(
    "--enrichers", type=click.IntRange(min=1), default=1, show_default=True, help="Number of enricher workers."
)
def command(
    chats_per_hour: float, turns: int, gap_seconds: float, conversation_kb: float, call_seconds: float, enrichers: int
) -> None:
    """Compute the needs of a load, with the settings of this environment."""
    settings = load_settings()
    load = Load(chats_per_hour, turns, gap_seconds, int(conversation_kb * 1024), call_seconds, enrichers)
    needs = needs_of(load, settings)
    rows = [
        ("posts a second", f"{needs.posts_per_second:.2f}", ""),
        ("calls a chat", f"~{needs.calls_per_chat:.2f}", f"NEXUS_SETTLE_SECONDS={settings.settle_seconds:g}"),
        ("requests a minute to Claude", f"~{needs.requests_per_minute:.0f}", "your account must allow them"),
        _bound("calls at a time", needs.concurrency_per_worker, settings, "claude_concurrency"),
        _bound("sessions pending", needs.pending_sessions_per_worker, settings, "pending_max_sessions"),
        _bound("bytes pending", needs.pending_bytes_per_worker, settings, "pending_max_bytes"),
        ("share of each enricher", f"{1 / enrichers:.2g}", f"NEXUS_CLAUDE_SHARE={settings.claude_share:g}"),
        ("enrichers", str(enrichers), f"at most NEXUS_TOPIC_PARTITIONS={settings.topic_partitions}"),
        ("rows a second", f"~{needs.settled_per_second:.2f}", "the sink's"),
        ("ingestion topic, GiB", f"~{needs.ingestion_gib:.2f}", f"{settings.ingestion_retention_hours} h of it"),
        ("enriched topic, GiB", f"~{needs.enriched_gib:.2f}", f"{settings.enriched_retention_hours} h of it"),
        ("USD for 1,000 chats", f"~{needs.usd_per_1000_chats:.3f}", f"{settings.claude_model}, list price"),
    ]
    for name, value, remark in rows:
        click.echo(f"{name:<28} {value:>12}  {remark}".rstrip())


def _bound(name: str, need: int, settings: Settings, field_name: str) -> tuple[str, str, str]:
    limit: int = getattr(settings, field_name)
    verdict = "enough" if need <= limit else "TOO SMALL: raise it"
    return f"{name}, a worker", f"~{need}", f"NEXUS_{field_name.upper()}={limit}: {verdict}"
