"""``nexus extract FILE|-``: read one conversation and show the record, its evidence, the dropped fields and the cost.

From: the JSON body that the gateway accepts, in a file or on standard input. To: the terminal, or JSON with ``--json``.
Nothing is published or stored, and only the extractor receives the text. The budget's caps apply to this one call
alone: the spending of the workers is in their own files.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any, BinaryIO

import click

from nexus_stream.contracts.conversation import decode
from nexus_stream.contracts.limits import gateway_limits
from nexus_stream.contracts.prospect import Prospect, Signal
from nexus_stream.errors import DecodeError, PermanentError, RetryableError
from nexus_stream.extraction.consent import NoExtraction
from nexus_stream.extraction.extractor import Extractor, Findings, MadeBy, Turn
from nexus_stream.extraction.factory import create_extractor
from nexus_stream.extraction.grounding import Checked, check
from nexus_stream.extraction.merging import merge
from nexus_stream.extraction.site_region import region_for
from nexus_stream.settings import Settings, load_settings

__all__ = ["command", "extracted"]


@click.command(name="extract")
@click.argument("conversation", type=click.File("rb"), metavar="FILE|-")
@click.option("--offline", is_flag=True, help="Use the offline rules, even if Claude is configured.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(conversation: BinaryIO, offline: bool, as_json: bool) -> None:
    """Read one conversation (the JSON body of a POST) and show the record and its evidence."""
    settings = load_settings(extractor="offline") if offline else load_settings()
    try:
        shown = asyncio.run(extracted(conversation.read(), settings))
    except DecodeError as error:
        details = "".join(f"\n  {field}: {problem}" for field, problem in error.details.items())
        raise click.ClickException(f"{error}{details}") from error
    except PermanentError as error:
        raise click.ClickException(f"a dead letter ({error.reason}): {error}") from error
    except RetryableError as error:
        wait = "" if error.retry_after_seconds is None else f" Try again in {error.retry_after_seconds:.0f} s."
        raise click.ClickException(f"not now: {error}.{wait}") from error
    if as_json:
        click.echo(json.dumps(shown, ensure_ascii=False, indent=2))
    else:
        _print(shown)


async def extracted(value: bytes, settings: Settings) -> dict[str, Any]:
    """Return the record that the enricher would make from a first snapshot, and the words that prove it.

    Args:
        value: The body, as posted.
        settings: The extractor, its limits and budget, and the limits of a body.

    Raises:
        DecodeError: the body is no conversation.
        PermanentError: the conversation would become a dead letter.
        RetryableError: nothing was decided.
    """
    body = decode(value, gateway_limits(settings))
    turns = [Turn(message.role, message.content) for message in body.messages]
    region = region_for(body, settings)
    refused = body.metadata.consent is False and settings.consent_respected
    extractor: Extractor = NoExtraction() if refused else create_extractor(settings)
    try:
        findings = await extractor.extract(turns, region)
    finally:
        await extractor.close()
    checked = check(findings, turns, default_region=region)
    prospect, signals = merge(None, (), checked)
    made_by = findings.made_by or extractor.labels
    return _shown(prospect, signals, turns, checked, made_by, findings)


def _shown(
    prospect: Prospect,
    signals: Sequence[Signal],
    turns: Sequence[Turn],
    checked: Checked,
    made_by: MadeBy,
    findings: Findings,
) -> dict[str, Any]:
    usage = findings.usage
    return {
        "prospect": prospect.model_dump(mode="json"),
        "signals": [
            {
                "name": signal.name.value,
                "turn": signal.turn,
                "confirmed": signal.confirmed,
                "words": turns[signal.turn].content[signal.start : signal.end],
            }
            for signal in signals
        ],
        "dropped_fields": list(checked.dropped_fields),
        "doubtful_fields": list(checked.doubtful_fields),
        "extractor": made_by.extractor,
        "model": made_by.model,
        "prompt_version": made_by.prompt_version,
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
        "cache_read_tokens": usage.cache_read_tokens,
        "cost_usd": usage.cost_usd,
        "latency_ms": usage.latency_ms,
    }


def _print(shown: dict[str, Any]) -> None:
    for field, value in shown["prospect"].items():
        text = ", ".join(value) if isinstance(value, list) else value
        click.echo(f"{field:<16}{'-' if text in (None, '') else text}")
    click.echo("\nSignals, with the user's words")
    for signal in shown["signals"]:
        words = " ".join(signal["words"].split())
        click.echo(
            f"  {signal['name']:<18} turn {signal['turn']:<3} {words!r}{'' if signal['confirmed'] else ' unconfirmed'}"
        )
    if not shown["signals"]:
        click.echo("  none")
    click.echo(f"\ndropped         {', '.join(shown['dropped_fields']) or '-'}")
    click.echo(f"doubtful        {', '.join(shown['doubtful_fields']) or '-'}")
    made = [shown["extractor"], shown["model"], shown["prompt_version"]]
    click.echo(f"extractor       {' · '.join(part for part in made if part)}")
    click.echo(
        f"tokens          {shown['input_tokens']} in, {shown['cache_read_tokens']} read from the cache, "
        f"{shown['output_tokens']} out"
    )
    click.echo(f"cost            {shown['cost_usd']:.6f} USD at list price")
    click.echo(f"took            {shown['latency_ms']:.0f} ms")
