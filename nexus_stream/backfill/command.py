"""``nexus backfill FILE|--from-topic|--since TIME|--again``: read many conversations at half price.

From: a JSON-lines file, or the ingestion topic. To: the ingestion topic, each conversation with its answer. Exit code 0
when everything is done, 1 when something was not done (the same command continues), 2 for wrong arguments or
configuration.
"""

from __future__ import annotations

import asyncio
import re
import sys
from collections import Counter
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import click

from nexus_stream.backfill.asking import Asking
from nexus_stream.backfill.batches import Batches
from nexus_stream.backfill.changes import changes_of, described
from nexus_stream.backfill.estimate import Estimate, Estimator, batch_price
from nexus_stream.backfill.fitting import LIMIT
from nexus_stream.backfill.known import CURRENT, UNREAD, judge_pending
from nexus_stream.backfill.progress import shown_progress
from nexus_stream.backfill.reading import ANSWERED, LEFT, LIVE, BatchCancelledError
from nexus_stream.backfill.records import Counts
from nexus_stream.backfill.run import Run
from nexus_stream.backfill.source import STDIN, BackfillSource, digest_of
from nexus_stream.backfill.store import RunStore
from nexus_stream.command_line import check_moment, run
from nexus_stream.errors import BrokerUnavailableError, ConfigurationError, RetryableError, TopicMismatchError
from nexus_stream.extraction.cache import RedisCache
from nexus_stream.extraction.claude.budget import Budget
from nexus_stream.extraction.claude.extractor import quiet_http_loggers
from nexus_stream.extraction.claude.prices import load_prices, price_of
from nexus_stream.extraction.claude.prompt import load_prompt
from nexus_stream.extraction.claude.request import create_client
from nexus_stream.kafka.sender import Sender
from nexus_stream.kafka.topics import require_topics
from nexus_stream.settings import Settings, load_settings

__all__ = ["command"]

_T = TypeVar("_T")

# Up to 64 MiB must be uploaded before the API answers.
_CREATE_TIMEOUT_SECONDS = 600.0
_CONTINUE = "Run the same command again to continue."
_NAME = re.compile(r"[A-Za-z0-9._-]{1,80}")
# The meaning of each outcome, for the operator.
_MEANINGS = {
    ANSWERED: "sent with Claude's answer",
    "plain": "sent without an answer: no call is needed, or only the fingerprint is new",
    LIVE: "failed in two batches; sent without an answer: the enricher calls Claude live",
    LEFT: "not answered; the record stays as it is",
    CURRENT: "skipped: the record is current",
    UNREAD: "skipped: not read yet, so there is nothing to read again",
    LIMIT: "not asked: --at-most-usd; the same command continues",
    "known": "skipped: already known",
    "erased": "skipped: erased",
    "lost": "not sent: somebody deleted a batch's results",
}


@click.command(name="backfill")
@click.argument(
    "file", required=False, metavar="[FILE|-]", type=click.Path(exists=True, dir_okay=False, allow_dash=True)
)
@click.option("--from-topic", is_flag=True, help="Read the ingestion topic instead of a file.")
@click.option(
    "--since", callback=check_moment, metavar="TIME", help="Read the topic from this time: ISO 8601, or 2h, 7d ago."
)
@click.option(
    "--as-of",
    callback=check_moment,
    metavar="TIME",
    help="Time of the lines without enqueuedAt. Default: the file's time of change.",
)
@click.option(
    "--name",
    metavar="NAME",
    help="Name of this run and its state. Default: the file's name and a hash of its content; or topic.",
)
@click.option(
    "--again",
    is_flag=True,
    help="Read the topic's sessions again whose record another model, another prompt or the offline rules made.",
)
@click.option(
    "--at-most-usd",
    type=click.FloatRange(min=0, min_open=True),
    metavar="USD",
    help="Stop asking when the run could cost more.",
)
@click.option("--dry-run", is_flag=True, help="Only count the calls and estimate their cost.")
@click.option("--yes", is_flag=True, help="Do not ask for confirmation. Needed without a terminal.")
def command(
    file: str | None,
    from_topic: bool,
    since: str | None,
    as_of: str | None,
    name: str | None,
    again: bool,
    at_most_usd: float | None,
    dry_run: bool,
    yes: bool,
) -> None:
    """Read many conversations with Claude at half price, within 24 hours.

    Each line of FILE is the JSON body of a POST. The newest snapshot of each session is read; known ones are skipped.
    You may stop it at any time: the same command continues, and nothing is paid twice. With --again it shows what
    would change before anything is sent, and asks.
    """
    is_topic = from_topic or since is not None or again
    if (file is None) == (not is_topic):
        raise click.UsageError("Give a FILE, or --from-topic, --since or --again.")
    if name is not None and not _NAME.fullmatch(name):
        raise click.UsageError("--name: letters, digits, '.', '_' and '-' only, at most 80.")
    settings = load_settings()
    if settings.anthropic_api_key is None and not dry_run:
        raise ConfigurationError("ANTHROPIC_API_KEY: missing. It is needed to read with Claude.")
    name = name or ("again" if again else "topic" if file is None else _name_of(file))
    directory = settings.data_dir / "backfill" / name
    is_started = RunStore.exists(directory)
    if not (yes or dry_run) and not (sys.stdin.isatty() and file != STDIN):
        raise click.UsageError("Without a terminal, give --yes or --dry-run.")
    with RunStore.in_memory() if dry_run and not is_started else RunStore.open(directory) as store:
        if again and not is_started:
            store.remember_last(directory)
        source = BackfillSource(file, since, as_of, again)
        work = _work(settings, store, source, directory, at_most_usd=at_most_usd, dry_run=dry_run, yes=yes)
        problems = _run(work, dry_run=dry_run)
        if problems is None:
            # Nothing was sent yet, so nothing is kept.
            RunStore.discard(directory)
            return
        counts = store.counts()
        refused = store.count_of("refused")
        if not dry_run:
            store.finish(directory, _summary(counts, refused))
    if not dry_run:
        click.echo("\n".join(_reported(counts)))
    if problems:
        sys.exit(1)


def _run(work: Coroutine[Any, Any, _T], *, dry_run: bool) -> _T:
    quiet_http_loggers()
    hint = "" if dry_run else _CONTINUE
    try:
        return run(work, passing=(RetryableError, BatchCancelledError), hint=hint)
    except KeyboardInterrupt:
        raise click.ClickException(f"Stopped. {hint}".rstrip()) from None


async def _work(
    settings: Settings,
    store: RunStore,
    source: BackfillSource,
    directory: Path,
    *,
    at_most_usd: float | None,
    dry_run: bool,
    yes: bool,
) -> bool | None:
    """Do the work. Return whether something was not done; None if the run was not started."""
    use_table = await _has_table(settings, required=not dry_run or source.file is None)
    prompt = load_prompt()
    price = batch_price(price_of(settings.claude_model, load_prices(settings.claude_prices_file)))
    budget = Budget(
        usd_per_hour=settings.budget_usd_per_hour,
        usd_per_day=settings.budget_usd_per_day,
        share=settings.claude_share,
        path=settings.data_dir / "backfill" / "budget.json",
    )
    if price is None and (budget.has_caps or at_most_usd is not None):
        raise ConfigurationError(
            "NEXUS_BUDGET_USD_PER_HOUR, NEXUS_BUDGET_USD_PER_DAY, --at-most-usd: no list price is known for "
            f"{settings.claude_model}, so no cap can be enforced. Add the price in NEXUS_CLAUDE_PRICES_FILE."
        )
    estimator = Estimator(price, prompt, settings.claude_max_tokens)
    budget.require_room_for(estimator.ordinary().at_most_usd)
    if store.get("loaded") is None:
        await _load(settings, store, source)
    else:
        source.require_same(store, directory)
        click.echo(f"Resuming {directory.name}, started {store.get('loaded')}.")
    made_by = Asking(settings, store).made_by
    source.require_same_model(store, directory, made_by)
    again = made_by if source.again else None
    await judge_pending(store, settings, use_table=use_table, again=again)
    _show_plan(store, settings, estimator, budget)
    if dry_run:
        return bool(store.count_of("refused"))
    if store.get("confirmed") is None:
        if not yes and not await asyncio.to_thread(click.confirm, "Start?"):
            return None
        with store.transaction():
            store.put("confirmed", "yes")
    async with AsyncExitStack() as stack:
        batches = Batches(create_client(settings, timeout_seconds=_CREATE_TIMEOUT_SECONDS), settings)
        stack.push_async_callback(batches.close)
        cache: RedisCache | None = None
        if settings.redis_url is not None:
            cache = RedisCache(
                settings.redis_url.get_secret_value(),
                ttl_seconds=settings.cache_ttl_seconds,
                timeout_seconds=settings.cache_timeout_seconds,
            )
            stack.push_async_callback(cache.close)
        sender = await stack.enter_async_context(Sender(settings))

        async def run_through(*, is_held: bool) -> Counts:
            with shown_progress() as progress:
                one = Run(
                    store=store,
                    settings=settings,
                    batches=batches,
                    sender=sender,
                    judge=lambda: judge_pending(store, settings, again=again),
                    budget=budget,
                    estimator=estimator,
                    progress=progress,
                    at_most_usd=at_most_usd,
                    is_held=is_held,
                    cache=cache,
                )
                return await one.run()

        if source.again and store.get("approved") is None:
            await run_through(is_held=True)
            await _approve(store, settings, yes=yes)
        counts = await run_through(is_held=False)
    return bool(store.count_of("refused") or counts.outcomes.get("lost") or counts.outcomes.get(LIMIT))


async def _approve(store: RunStore, settings: Settings, *, yes: bool) -> None:
    """Show what the answers would change, and ask whether they are sent. Nothing was sent yet."""
    changes = await changes_of(store, settings)
    click.echo(described(changes))
    if changes.records and not yes and not await asyncio.to_thread(click.confirm, "Replace these records?"):
        raise click.ClickException("Nothing was sent. The answers are kept: the same command asks once more.")
    with store.transaction():
        store.put("approved", "yes")


async def _has_table(settings: Settings, *, required: bool) -> bool:
    """Whether the session table can be read. Without a broker, a file can still be counted."""
    try:
        await require_topics(settings)
    except (BrokerUnavailableError, TopicMismatchError) as error:
        if required:
            raise
        click.echo(f"The broker is not available, so known sessions are counted too: {error}")
        return False
    return True


async def _load(settings: Settings, store: RunStore, source: BackfillSource) -> None:
    """Load the whole input in one transaction: after a kill here, the next run loads it again."""
    with store.transaction():
        intake, left = await source.take(store, settings)
        store.put("loaded", datetime.now(UTC).isoformat(timespec="seconds"))
        store.add_to("refused", intake.refused.total())
        store.add_to("left", left)
    click.echo(f"{intake.taken:,} snapshots of {store.counts().total:,} sessions")
    if left:
        click.echo(
            f"{left:,} records that no enricher has finished are left to the enrichers, which would pay for them again "
            "(if both use the same NEXUS_REDIS_URL, they are read here too)"
        )
    if intake.refused:
        reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(intake.refused.items()))
        click.echo(f"{intake.refused.total():,} are not conversations and are skipped: {reasons}")
        for problem in intake.problems:
            click.echo(f"  {problem}")


def _show_plan(store: RunStore, settings: Settings, estimator: Estimator, budget: Budget) -> None:
    counts = store.counts()
    asking = Asking(settings, store)
    estimate = Estimate()
    over_cap = 0
    for item in store.all_items("pending"):
        one = estimator.of("".join(asking.texts(item)))
        estimate += one
        over_cap += any(one.at_most_usd > cap_usd for cap_usd in budget.caps_usd.values())
    for outcome in ("known", "erased"):
        if outcome in counts.outcomes:
            click.echo(f"{counts.outcomes[outcome]:,} {_MEANINGS[outcome]}")
    if counts.outcomes.get("plain"):
        click.echo(f"{counts.outcomes['plain']:,} need no call")
    if counts.states.get("batched"):
        click.echo(f"{counts.states['batched']:,} already in batches")
    if estimator.price is None:
        click.echo(f"{estimate.requests:,} calls to {settings.claude_model}; no list price is known for it")
        return
    click.echo(
        f"{estimate.requests:,} calls to {settings.claude_model} in batches, estimated {estimate.low_usd:.4f} to "
        f"{estimate.high_usd:.4f} USD at half the list price, at most {estimate.at_most_usd:.4f}"
    )
    if over_cap:
        click.echo(f"{over_cap:,} of them could cost more than a whole cap and become dead letters: over_budget")
    for variable, usd in (
        ("NEXUS_BUDGET_USD_PER_HOUR", settings.budget_usd_per_hour),
        ("NEXUS_BUDGET_USD_PER_DAY", settings.budget_usd_per_day),
    ):
        if usd is not None and estimate.at_most_usd > usd * settings.claude_share:
            click.echo(
                f"{variable}: the cap is {usd * settings.claude_share:.4f} USD, so the run will pause at the cap"
            )


def _reported(counts: Counts) -> list[str]:
    lines = [f"Done. {counts.cost_usd:.4f} USD."]
    for outcome, count in sorted(counts.outcomes.items(), key=lambda pair: -pair[1]):
        meaning = _MEANINGS.get(outcome, f"sent to become a dead letter: {outcome}")
        lines.append(f"{count:>8,}  {meaning}")
    return lines


def _summary(counts: Counts, refused: int) -> dict[str, Any]:
    return {
        "ended_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "outcomes": dict(Counter(counts.outcomes)),
        "not_conversations": refused,
        "cost_usd": round(counts.cost_usd, 6),
    }


def _name_of(file: str) -> str:
    """Name the run by the file's content, so that the same command finds its run again."""
    if file == STDIN:
        return "stdin"
    stem = re.sub(r"[^A-Za-z0-9._-]", "_", Path(file).stem)[:60]
    return f"{stem}-{digest_of(file)[:8]}"
