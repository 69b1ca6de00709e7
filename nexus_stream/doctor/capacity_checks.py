"""Compare bounds, budget and shares with the measured load. Runs after all areas, with their `MeasuredFacts`.

Pure functions. Formulas: docs/reference/capacity.md.
"""

from __future__ import annotations

import math
from typing import Final

from nexus_stream.doctor.facts import MeasuredFacts
from nexus_stream.doctor.finding import Finding, error, note, ok, warning
from nexus_stream.extraction.claude.prices import TokenCounts, cost_usd, load_prices, price_of
from nexus_stream.extraction.claude.prompt import load_prompt
from nexus_stream.settings import Role, Settings

__all__ = ["check_capacity", "judge_budget", "judge_in_flight", "judge_pool", "judge_shares", "usd_per_call"]

# Time of one call to Claude. Measured against stand-ins, so an assumption: docs/reference/claude.md.
_CALL_SECONDS: Final = 2.0
# Tokens of a chat of a few turns, and of Claude's answer.
_CONVERSATION_TOKENS: Final = 400
_ANSWER_TOKENS: Final = 250
_CHARS_PER_TOKEN: Final = 3.0
_HOUR_SECONDS: Final = 3600
_DAY_SECONDS: Final = 86_400
# The peak rate of an hour, relative to its mean rate.
_PEAK: Final = 3.0


def check_capacity(
    settings: Settings, roles: frozenset[Role], facts: MeasuredFacts, *, sinks: int | None
) -> list[Finding]:
    """Run every check for which the facts are known.

    Args:
        settings: The bounds.
        roles: The processes to check.
        facts: The measurements of this run.
        sinks: The planned number of sinks. None: the number that runs, at least one.
    """
    findings: list[Finding] = []
    if "enricher" in roles:
        findings.append(judge_in_flight(settings, facts))
        if settings.use_claude:
            findings += judge_shares(settings, facts)
            findings += judge_budget(settings, facts.records_last_day)
    if roles & {"sink", "console"}:
        findings += judge_pool(settings, facts, sinks or max(1, facts.sinks or 0))
    return findings


def judge_in_flight(settings: Settings, facts: MeasuredFacts) -> Finding:
    """Compare the in-flight bound with the rate: NEXUS_PENDING_MAX_SESSIONS >= rate x (settle + call)."""
    pending_seconds = settings.max_wait_seconds + (_CALL_SECONDS if settings.use_claude else 0)
    max_rate = settings.pending_max_sessions / max(pending_seconds, 0.001)
    formula = (
        f"NEXUS_PENDING_MAX_SESSIONS={settings.pending_max_sessions} >= rate x ({settings.max_wait_seconds:g} s settle "
        f"+ {pending_seconds - settings.max_wait_seconds:g} s call): up to {max_rate:.0f} sessions a second per worker"
    )
    workers = max(1, facts.enrichers or 0)
    hourly = facts.records_last_hour
    if hourly is None or hourly == 0:
        return ok("host.in_flight", formula)
    # An upper bound: several snapshots of one session count as one pending session.
    rate = _PEAK * hourly / _HOUR_SECONDS / workers
    formula += f"; the last hour's peak is at most about {rate:.1f}"
    if rate <= max_rate:
        return ok("host.in_flight", formula)
    needed = math.ceil(rate * pending_seconds)
    why = "The worker stops reading at the bound, even if it looks idle."
    return warning("host.in_flight", formula, why, f"NEXUS_PENDING_MAX_SESSIONS={needed}, or more enrichers")


def judge_shares(settings: Settings, facts: MeasuredFacts) -> list[Finding]:
    """Compare the sum of the workers' shares with the account's allowance."""
    workers = facts.enrichers or 0
    findings = []
    if workers > 1 and settings.claude_share * workers > 1 + 1e-9:
        found = f"{workers} enrichers run, each with NEXUS_CLAUDE_SHARE={settings.claude_share:g}"
        why = "Together they may exceed the account's allowance (HTTP 429) and the budget."
        findings.append(warning("claude.share", found, why, f"NEXUS_CLAUDE_SHARE={math.floor(100 / workers) / 100:g}"))
    per_minute = settings.claude_requests_per_minute
    if per_minute is not None:
        share = per_minute * settings.claude_share
        slots = math.ceil(share / 60 * _CALL_SECONDS)
        if settings.claude_concurrency < slots:
            found = (
                f"NEXUS_CLAUDE_CONCURRENCY={settings.claude_concurrency}, but the allowance of {share:g} requests a "
                f"minute needs {slots}"
            )
            why = "A part of the allowance stays unused."
            findings.append(note("claude.concurrency", found, why, f"NEXUS_CLAUDE_CONCURRENCY={slots}"))
        hourly = facts.records_last_hour or 0
        if hourly / 60 > per_minute:
            found = f"{hourly} snapshots arrived in the last hour, but the allowance is {per_minute * 60} requests"
            why = "Settling combines several snapshots in one call. If it combines too few, the backlog grows."
            fix = "Raise the account's limit, or NEXUS_SETTLE_SECONDS"
            findings.append(warning("claude.allowance", found, why, fix))
    return findings


def usd_per_call(settings: Settings) -> float | None:
    """Estimate the cost of one conversation, with a cached prompt. Return None if the model has no price."""
    price = price_of(settings.claude_model, load_prices(settings.claude_prices_file))
    if price is None:
        return None
    prompt = load_prompt()
    prompt_tokens = math.ceil((len(prompt.system) + len(str(prompt.schema))) / _CHARS_PER_TOKEN)
    return cost_usd(price, TokenCounts(_CONVERSATION_TOKENS, _ANSWER_TOKENS, cache_read_tokens=prompt_tokens))


def judge_budget(settings: Settings, records_last_day: int | None) -> list[Finding]:
    """Compare the budget with the maximum cost of a day like the last one."""
    usd = usd_per_call(settings)
    if usd is None:
        return []
    per_day = settings.budget_usd_per_day
    if settings.budget_usd_per_hour is not None:
        by_hour = settings.budget_usd_per_hour * _DAY_SECONDS / _HOUR_SECONDS
        per_day = by_hour if per_day is None else min(per_day, by_hour)
    if per_day is None:
        if settings.env != "production":
            return []
        why = "The endpoint is public: a flood of posts can cost as much as the account allows."
        fix = "NEXUS_BUDGET_USD_PER_DAY, several times the cost of a usual day"
        return [note("claude.budget", "no budget is set", why, fix)]
    affordable_calls = int(per_day / usd)
    text = f"the budget of {per_day:g} USD a day pays about {affordable_calls:,} calls ({usd * 1000:.2f} USD per 1,000)"
    if records_last_day is None:
        return [ok("claude.budget", text)]
    text += f"; {records_last_day:,} snapshots arrived in the last 24 h, each at most one call"
    if records_last_day <= affordable_calls:
        return [ok("claude.budget", text)]
    waits = settings.budget_fallback == "wait"
    why = "At the cap, enrichment waits for the next window." if waits else "At the cap, the offline rules extract."
    fix = f"NEXUS_BUDGET_USD_PER_DAY={math.ceil(2 * records_last_day * usd)}, or longer NEXUS_SETTLE_SECONDS"
    return [warning("claude.budget", text, why, fix)]


def judge_pool(settings: Settings, facts: MeasuredFacts, sinks: int) -> list[Finding]:
    """Compare sinks x NEXUS_DATABASE_POOL_MAX + console with the free connections of the server or its pooler."""
    if facts.connections_free is None:
        return []
    pool, free = settings.database_pool_max, facts.connections_free
    needed = sinks * pool + 1
    found = (
        f"{sinks} sink(s) x NEXUS_DATABASE_POOL_MAX={pool} + 1 for the console = {needed} connections; "
        f"{facts.connections_of} leaves {free}"
    )
    if needed <= free:
        return [ok("postgresql.pool", f"{found}, enough for {max(0, free - 1) // pool} sinks")]
    least = sinks + 1
    why = "The last processes to start get no connection (53300), or wait for one."
    lower = max(1, (free - 1) // sinks)
    fix = f"NEXUS_DATABASE_POOL_MAX={lower}" if lower < pool else "Raise max_connections, or close other connections"
    fix += ", fewer sinks, or the transaction pooler (port 6543)"
    make = error if least > free else warning
    return [make("postgresql.pool", found, why, fix)]
