"""``nexus dlq list|show|redrive|discard``: an operator's commands for dead letters.

From: ``nexus-prospect-dlq``. To: the terminal; `redrive` also writes to the origin topics. Exit code 0: everything is
done. 1: something is not done. 2: wrong options or configuration.
"""

from __future__ import annotations

import sys
from collections import Counter, deque
from datetime import UTC, datetime
from typing import Any

import click

from nexus_stream.command_line import operator, read_moment, run, with_options
from nexus_stream.dead_letters.filters import Filter
from nexus_stream.dead_letters.letter import Action
from nexus_stream.dead_letters.log import DeadLetterLog
from nexus_stream.dead_letters.marks import State
from nexus_stream.dead_letters.printing import LetterRow, described_letter, escaped, json_line, table
from nexus_stream.dead_letters.redriving import (
    RedriveReport,
    Selection,
    discard,
    letters,
    read_histories,
    redrive,
    survey,
)
from nexus_stream.errors import Reason
from nexus_stream.kafka.reading import Ends
from nexus_stream.kafka.sender import Sender
from nexus_stream.kafka.topics import require_topics
from nexus_stream.settings import Settings, load_settings

__all__ = ["command"]

_DEFAULT_ROWS = 50

_FILTER_OPTIONS = (
    click.option("--id", "ids", multiple=True, metavar="ID", help="Letter id; may be repeated."),
    click.option(
        "--reason",
        "reasons",
        multiple=True,
        type=click.Choice([reason.value for reason in Reason]),
        help="Reason of the failure; may be repeated.",
    ),
    click.option(
        "--origin-topic",
        "origins",
        multiple=True,
        type=click.Choice(["ingestion", "enriched"]),
        help="Failed in the enricher (ingestion) or in the sink (enriched).",
    ),
    click.option(
        "--since", callback=read_moment, metavar="TIME", help="Failed at or after TIME: ISO 8601, or 2h, 7d ago."
    ),
    click.option("--until", callback=read_moment, metavar="TIME", help="Failed before TIME."),
    click.option("--session", metavar="ID", help="Session id; tenant:session for a tenant's session."),
)
_ACT_OPTIONS = (
    click.option("--limit", type=click.IntRange(1), help="Maximum number of letters, oldest first."),
    click.option("--dry-run", is_flag=True, help="Count the letters, change nothing."),
    click.option(
        "--yes", is_flag=True, help="Skip the confirmation. Required for more than one letter without a terminal."
    ),
    click.option("--by", metavar="NAME", help="Operator's name for the mark on each letter. Default: user@host."),
)


def _filter(settings: Settings, options: dict[str, Any]) -> Filter:
    topics = {"ingestion": settings.ingestion_topic, "enriched": settings.enriched_topic}
    return Filter(
        ids=frozenset(options["ids"]),
        reasons=frozenset(str(reason) for reason in options["reasons"]),
        origin_topics=frozenset(topics[origin] for origin in options["origins"]),
        since=options["since"],
        until=options["until"],
        session=options["session"],
    )


@click.group(name="dlq")
def command() -> None:
    """List, show, redrive and discard dead letters."""


@command.command(name="list")
@with_options(*_FILTER_OPTIONS)
@click.option("--all-states", is_flag=True, help="Include redriven and discarded letters. Default: only open letters.")
@click.option(
    "--limit", type=click.IntRange(1), help=f"Number of newest rows to show. Default {_DEFAULT_ROWS}; --json: all."
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object per line, oldest first, without a summary.")
def list_command(all_states: bool, limit: int | None, as_json: bool, **options: Any) -> None:
    """Count letters by reason, and list them. Sessions are hashed, as in the logs."""
    settings = load_settings()
    run(_list(settings, _filter(settings, options), all_states=all_states, limit=limit, as_json=as_json))


async def _list(settings: Settings, wanted: Filter, *, all_states: bool, limit: int | None, as_json: bool) -> None:
    rows: deque[LetterRow] = deque(maxlen=limit or _DEFAULT_ROWS)
    stream_json = as_json and limit is None
    reasons: Counter[str] = Counter()
    states: Counter[State] = Counter()
    async with DeadLetterLog(settings) as log:
        ends = await log.ends()
        histories = await read_histories(log, ends)
        async for letter in letters(log, ends, wanted):
            history = histories.of(letter)
            states[history.state] += 1
            if not all_states and history.state is not State.OPEN:
                continue
            reasons[letter.reason] += 1
            row = LetterRow.of(letter, history)
            if stream_json:
                click.echo(json_line(row))
            else:
                rows.append(row)
    if as_json:
        for row in rows:
            click.echo(json_line(row))
        return
    click.echo(f"{settings.dead_letter_topic}: {_listed(states) or 'no letters'}")
    for reason, count in reasons.most_common():
        click.echo(f"  {count:>6}  {escaped(reason)}")
    if rows:
        click.echo()
        for line in table(rows):
            click.echo(line)
        if reasons.total() > len(rows):
            click.echo(f"The newest {len(rows)} of {reasons.total()}; --limit shows more.")
    if histories.foreign:
        click.echo(f"{histories.foreign} record(s) of the topic are not dead letters; they are ignored.")


@command.command()
@click.argument("letter_id", metavar="ID")
@click.option("--reveal", is_flag=True, help="Show key, value and headers in clear text, with personal data.")
def show(letter_id: str, reveal: bool) -> None:
    """Show one letter: its state, its headers, and the structure of its value."""
    if not run(_show(load_settings(), letter_id, reveal=reveal)):
        raise click.ClickException("no letter has this id; `nexus dlq list --all-states` lists all letters")


async def _show(settings: Settings, letter_id: str, *, reveal: bool) -> bool:
    found = False
    async with DeadLetterLog(settings) as log:
        ends = await log.ends()
        histories = await read_histories(log, ends)
        async for letter in letters(log, ends, Filter(ids=frozenset({letter_id}))):
            if found:
                click.echo()
            found = True
            for line in described_letter(letter, histories.of(letter), reveal=reveal):
                click.echo(line)
    return found


@command.command(name="redrive")
@with_options(*_FILTER_OPTIONS)
@click.option("--again", is_flag=True, help="Include redriven letters, and discarded letters that --id names.")
@with_options(*_ACT_OPTIONS)
def redrive_command(again: bool, **options: Any) -> None:
    """Send open letters back to their origin topic. Redriven letters get a mark and are not sent twice."""
    _act(Action.REDRIVEN, again=again, **options)


@command.command(name="discard")
@with_options(*_FILTER_OPTIONS)
@with_options(*_ACT_OPTIONS)
def discard_command(**options: Any) -> None:
    """Mark open letters as discarded: they are no longer listed or redriven."""
    _act(Action.DISCARDED, again=False, **options)


def _act(
    action: Action, *, again: bool, limit: int | None, dry_run: bool, yes: bool, by: str | None, **options: Any
) -> None:
    settings = load_settings()
    selection = Selection(filter=_filter(settings, options), again=again, limit=limit)
    plan, ends = run(_plan(settings, selection, action))
    verb = "redrive" if action is Action.REDRIVEN else "discard"
    click.echo(f"{'would ' if dry_run else ''}{verb} {_letters(plan.total)}{_of_each(plan)}")
    if action is Action.REDRIVEN:
        for topic, count in plan.topics.most_common():
            click.echo(f"  {count:>6}  to {topic}")
    for line in _left_out(plan, selection):
        click.echo(line)
    if dry_run:
        return
    if plan.total == 0:
        sys.exit(1 if plan.not_ours else 0)
    if plan.total > 1 and not yes:
        # Do not read the answer from a pipe: a "y" in it may belong to something else.
        if not sys.stdin.isatty():
            raise click.UsageError(f"There is no terminal to confirm {_letters(plan.total)}: add --yes.")
        click.confirm(f"{verb.capitalize()} {_letters(plan.total)}?", abort=True)
    report = RedriveReport()
    try:
        run(_do(settings, selection, ends, action, report, by or operator()))
    finally:
        click.echo(f"{action.value} {_letters(report.total)}")
    if report.refused:
        click.echo(f"{_letters(report.refused)} over the topic's max.message.bytes: still open")
    sys.exit(1 if report.refused or report.not_ours else 0)


async def _plan(settings: Settings, selection: Selection, action: Action) -> tuple[RedriveReport, Ends]:
    if action is Action.REDRIVEN:
        await require_topics(settings)
    async with DeadLetterLog(settings) as log:
        ends = await log.ends()
        return await survey(log, settings, ends, selection, action), ends


async def _do(
    settings: Settings, selection: Selection, ends: Ends, action: Action, report: RedriveReport, by: str
) -> None:
    act = redrive if action is Action.REDRIVEN else discard
    async with DeadLetterLog(settings) as log, Sender(settings) as sender:
        await act(log, sender, settings, ends, selection, report, by=by, now=lambda: datetime.now(UTC))


def _left_out(plan: RedriveReport, selection: Selection) -> list[str]:
    lines = []
    redriven, discarded = plan.states[State.REDRIVEN], plan.states[State.DISCARDED]
    if redriven and not selection.again:
        lines.append(f"skipped: {redriven} already redriven (`redrive --again` sends them again)")
    if discarded and not (selection.again and selection.filter.ids):
        lines.append(f"skipped: {discarded} already discarded (`redrive --again --id ID` sends one of them)")
    if plan.not_ours:
        lines.append(
            f"skipped: {plan.not_ours} from a topic that is neither the ingestion nor the enriched topic of these "
            "settings (check NEXUS_TOPIC_PREFIX)"
        )
    return lines


def _of_each(report: RedriveReport) -> str:
    reasons = ", ".join(f"{count} {escaped(reason)}" for reason, count in report.chosen.most_common())
    return f": {reasons}" if reasons else ""


def _listed(states: Counter[State]) -> str:
    return ", ".join(f"{states[state]} {state.value}" for state in State if states[state])


def _letters(count: int) -> str:
    return f"{count} letter" if count == 1 else f"{count} letters"
