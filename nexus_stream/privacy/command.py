"""``nexus privacy export|erase|forget-session|unblock``: an operator's commands for privacy requests.

Exit code 0: the request is complete. 1: nobody was found, something is not done, or the timeout passed (run the command
again to continue). 2: wrong options or configuration. The table ``privacy_audit`` records every call that searches for
a person, however the call ends. Only an export shows ids. The other commands show hashes.
"""

from __future__ import annotations

import asyncio
import copy
import json
import re
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NoReturn

import click

from nexus_stream.command_line import operator, run, with_options
from nexus_stream.contracts.session_key import TENANT_PATTERN
from nexus_stream.errors import ConfigurationError
from nexus_stream.privacy.audit import Audit, PrivacyAction, audited
from nexus_stream.privacy.changelog import StoredState
from nexus_stream.privacy.copies import remaining_copies
from nexus_stream.privacy.erasing import ErasureResult, erase, forget_session, locate, locate_session, unblock
from nexus_stream.privacy.exporting import export
from nexus_stream.privacy.people import People, Person
from nexus_stream.privacy.report import as_dict, described, reported
from nexus_stream.privacy.selector import Selector, SelectorKind
from nexus_stream.settings import Settings, load_settings

__all__ = ["command"]

_DEFAULT_TIMEOUT_SECONDS = 60.0

_KINDS: dict[SelectorKind, str] = {
    "session": "The person of this session, with all their sessions.",
    "fingerprint": "The person of this browser, with all its sessions.",
    "email": "Every person who gave this address, with all their browsers and sessions.",
    "phone": "Every person who gave this number, with all their browsers and sessions.",
}
_SELECTORS = tuple(click.option(f"--{kind}", metavar="VALUE", help=text) for kind, text in _KINDS.items())
_OPTIONS = (
    click.option("--tenant", default="", metavar="ID", help="The person's tenant. Default: the one without a name."),
    click.option("--by", metavar="NAME", help="Name of the requester for the audit. Default: user@host."),
    click.option("--json", "as_json", is_flag=True, help="One JSON object instead of text."),
)
_ACT_OPTIONS = (
    click.option("--yes", is_flag=True, help="Skip the confirmation. Required without a terminal."),
    click.option("--dry-run", is_flag=True, help="Show the affected sessions and browsers, change nothing."),
    click.option(
        "--timeout",
        type=click.FloatRange(min=1.0),
        default=_DEFAULT_TIMEOUT_SECONDS,
        show_default=True,
        metavar="SECONDS",
        help="Maximum time to wait for completion.",
    ),
)


def _selector(settings: Settings, options: dict[str, Any]) -> Selector:
    given = [kind for kind in _KINDS if options[kind] is not None]
    if len(given) != 1:
        raise click.UsageError("Give one of --session, --fingerprint, --email and --phone.")
    tenant_id = options["tenant"]
    if not re.fullmatch(TENANT_PATTERN, tenant_id):
        raise ConfigurationError("--tenant: letters, digits, '_', '.' and '-' only, at most 64.")
    return Selector.of(given[0], options[given[0]], tenant_id, settings.default_region)


@click.group(name="privacy")
def command() -> None:
    """Export, erase or unblock a person; forget one session."""


@command.command(name="export")
@with_options(*_SELECTORS, *_OPTIONS)
def export_command(by: str | None, as_json: bool, **options: Any) -> None:
    """Print all stored data of a person as JSON, and list the copies."""
    settings = load_settings()
    found, is_known = run(_export(settings, _selector(settings, options), by or operator()))
    click.echo(json.dumps(found, indent=2, default=str))
    if not is_known:
        _nobody()


async def _export(settings: Settings, selector: Selector, requested_by: str) -> tuple[dict[str, Any], bool]:
    async with People.connect(settings) as people:
        return await export(settings, people, selector, requested_by)


@command.command(name="erase")
@with_options(*_SELECTORS, *_OPTIONS, *_ACT_OPTIONS)
def erase_command(by: str | None, as_json: bool, yes: bool, dry_run: bool, timeout: float, **options: Any) -> None:
    """Erase and block a person, and list the copies that remain."""
    settings = load_settings()
    work = _Work("erase", "Erase this person? This cannot be undone.", locate, erase, leaves_copies=True)
    _act(settings, _selector(settings, options), work, by, as_json, yes, dry_run, timeout)


@command.command(name="forget-session")
@click.argument("session", metavar="ID")
@with_options(*_OPTIONS, *_ACT_OPTIONS)
def forget_session_command(
    session: str, tenant: str, by: str | None, as_json: bool, yes: bool, dry_run: bool, timeout: float
) -> None:
    """Delete one session and keep the rest of the person. New messages of the session are stored again."""
    settings = load_settings()
    question = "Forget this session? This cannot be undone."
    work = _Work("forget-session", question, locate_session, forget_session, leaves_copies=True)
    selector = _selector(settings, {**dict.fromkeys(_KINDS), "session": session, "tenant": tenant})
    _act(settings, selector, work, by, as_json, yes, dry_run, timeout)


@command.command(name="unblock")
@with_options(*_SELECTORS, *_OPTIONS, *_ACT_OPTIONS)
def unblock_command(by: str | None, as_json: bool, yes: bool, dry_run: bool, timeout: float, **options: Any) -> None:
    """Store new messages of an erased person again. Erased data stays erased."""
    settings = load_settings()
    selector = _selector(settings, options)
    if selector.kind in {"email", "phone"}:
        raise ConfigurationError(
            f"--{selector.kind}: an erasure keeps no e-mail address or phone number. Use --session or --fingerprint."
        )
    work = _Work("lift", "Unblock this person?", locate, unblock, leaves_copies=False)
    _act(settings, selector, work, by, as_json, yes, dry_run, timeout)


# The former name of `unblock`, for existing scripts.
_lift_command = copy.copy(unblock_command)
_lift_command.hidden = True
command.add_command(_lift_command, name="lift")


@dataclass(frozen=True, slots=True)
class _Work:
    """The differences between the three commands that change data."""

    action: PrivacyAction
    question: str
    find: Callable[[Settings, People, Selector], Awaitable[tuple[Person, dict[bytes, StoredState]]]]
    act: Callable[..., Awaitable[ErasureResult]]
    leaves_copies: bool


def _act(
    settings: Settings,
    selector: Selector,
    work: _Work,
    by: str | None,
    as_json: bool,
    yes: bool,
    dry_run: bool,
    timeout_seconds: float,
) -> None:
    if not (yes or dry_run) and not sys.stdin.isatty():
        raise click.UsageError("There is no terminal for the confirmation. Give --yes or --dry-run.")

    async def act() -> tuple[Person, ErasureResult | None]:
        requested_by = by or operator()
        async with (
            People.connect(settings) as people,
            audited(people, work.action, selector, requested_by) as audit,
        ):
            person, states = await work.find(settings, people, selector)
            await audit.concerns(person)
            rows = await people.rows_left(person)
            if person.size and not as_json:
                click.echo("\n".join(described(person, states, rows)))
            if not person.size:
                audit.outcome = "nobody found"
            elif dry_run:
                audit.outcome = "dry run"
            elif not (yes or await _confirmed(work.question, audit)):
                audit.outcome = "refused"
            else:
                return person, await work.act(
                    settings,
                    people,
                    selector,
                    person,
                    requested_by=requested_by,
                    timeout_seconds=timeout_seconds,
                    audit=audit,
                )
            return person, None

    person, result = run(act())
    # Take the time now: the confirmation and the wait may have taken long.
    counted_from = datetime.now(UTC)
    copies = remaining_copies(settings, counted_from) if result and work.leaves_copies else []
    if as_json:
        click.echo(json.dumps(as_dict(person, result, copies, counted_from), indent=2))
    elif result is not None:
        click.echo("\n".join(reported(result, copies)))
    if not person.size:
        _nobody()
    if result is not None and not result.complete:
        sys.exit(1)


async def _confirmed(question: str, audit: Audit) -> bool:
    try:
        return bool(await asyncio.to_thread(click.confirm, question))
    except click.Abort:
        audit.outcome = "refused"
        raise


def _nobody() -> NoReturn:
    raise click.ClickException(
        "Nobody found. Records that the enricher and the sink have not read yet are not searched: check their lag."
    )
