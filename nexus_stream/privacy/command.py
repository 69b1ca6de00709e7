"""``nexus privacy export|erase|lift``: what a person may ask for, from an operator's terminal.

Exit code 0 when all that was asked is done, 1 when something was left undone or time was up (calling it again goes
on), 2 for a wrong call or configuration. Every call is in the table ``privacy_audit``. Only an export shows ids; the
others show hashes.
"""

from __future__ import annotations

import asyncio
import getpass
import json
import logging
import re
import socket
import sys
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import click

from nexus_stream.contracts.session_command import SessionCommand
from nexus_stream.contracts.session_key import TENANT_PATTERN
from nexus_stream.errors import ConfigurationError, RetryableError
from nexus_stream.privacy.changelog import State
from nexus_stream.privacy.copies import Copy, remaining_copies
from nexus_stream.privacy.erasing import Erased, erase, lift, locate
from nexus_stream.privacy.people import People, Person
from nexus_stream.privacy.selector import Selector, SelectorKind
from nexus_stream.privacy.subjects import short_hash
from nexus_stream.settings import Settings, load_settings

__all__ = ["command"]

_DEFAULT_TIMEOUT_SECONDS = 60.0

_T = TypeVar("_T")
_Command = TypeVar("_Command", bound=Callable[..., Any])

_KINDS: dict[SelectorKind, str] = {
    "session": "This session, and with it the person it belongs to.",
    "fingerprint": "This browser, with all of its sessions.",
    "email": "Whoever gave this address, with all of their browsers and sessions.",
    "phone": "Whoever gave this number, with all of their browsers and sessions.",
}
_OPTIONS = (
    *(click.option(f"--{kind}", metavar="VALUE", help=text) for kind, text in _KINDS.items()),
    click.option("--tenant", default="", metavar="ID", help="Of this tenant; without, of the one without a name."),
    click.option("--by", metavar="NAME", help="Who asks, for the audit. Default: user@host."),
    click.option("--json", "as_json", is_flag=True, help="One JSON object instead of text."),
)
_ACT_OPTIONS = (
    click.option("--yes", is_flag=True, help="Don't ask. Needed without a terminal."),
    click.option("--dry-run", is_flag=True, help="Only show whom it would concern."),
    click.option(
        "--timeout",
        type=click.FloatRange(min=1.0),
        default=_DEFAULT_TIMEOUT_SECONDS,
        show_default=True,
        metavar="SECONDS",
        help="How long to wait until it is done.",
    ),
)


def _with(options: tuple[Callable[[_Command], _Command], ...]) -> Callable[[_Command], _Command]:
    def decorate(function: _Command) -> _Command:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


def _selector(settings: Settings, options: dict[str, Any]) -> Selector:
    given = [kind for kind in _KINDS if options[kind] is not None]
    if len(given) != 1:
        raise click.UsageError("Give one of --session, --fingerprint, --email and --phone.")
    tenant_id = options["tenant"]
    if not re.fullmatch(TENANT_PATTERN, tenant_id):
        raise ConfigurationError("--tenant: letters, digits, '_', '.' and '-' only, at most 64.")
    return Selector.of(given[0], options[given[0]], tenant_id, settings.default_region)


def _run(work: Coroutine[Any, Any, _T]) -> _T:
    # While a broker is down it logs several errors for each attempt; the command says it once.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    try:
        return asyncio.run(work)
    except RetryableError as error:
        raise click.ClickException(str(error)) from error


def _requested_by(name: str | None) -> str:
    return name or f"{getpass.getuser()}@{socket.gethostname()}"


@click.group(name="privacy")
def command() -> None:
    """Export, erase and let in again a person's data."""


@command.command(name="export")
@_with(_OPTIONS)
def export_command(by: str | None, as_json: bool, **options: Any) -> None:
    """Everything that is stored about a person, as JSON, and where copies of it are."""
    settings = load_settings()
    click.echo(
        json.dumps(_run(_export(settings, _selector(settings, options), _requested_by(by))), indent=2, default=str)
    )


async def _export(settings: Settings, selector: Selector, requested_by: str) -> dict[str, Any]:
    request_id = SessionCommand.new_request_id()
    async with People.connect(settings) as people:
        person, states = await locate(settings, people, selector)
        await people.begin_audit("export", request_id, requested_by, selector, person)
        tables = await people.export(person)
        await people.end_audit(request_id, "done")
    return {
        "request_id": request_id,
        "tenant_id": person.tenant_id,
        "session_ids": sorted(person.session_ids),
        "fingerprints": sorted(person.fingerprints),
        **tables,
        "session_table": [state for _, state in sorted(states.items())],
        "copies": [copy.as_dict() for copy in remaining_copies(settings)],
    }


@command.command(name="erase")
@_with((*_OPTIONS, *_ACT_OPTIONS))
def erase_command(by: str | None, as_json: bool, yes: bool, dry_run: bool, timeout: float, **options: Any) -> None:
    """Erase a person, keep them away, and say where copies remain until when."""
    settings = load_settings()
    selector = _selector(settings, options)
    _act(
        settings,
        selector,
        erase,
        question="Erase this person? It cannot be undone.",
        by=by,
        as_json=as_json,
        yes=yes,
        dry_run=dry_run,
        timeout_seconds=timeout,
        copies=remaining_copies(settings),
    )


@command.command(name="lift")
@_with((*_OPTIONS, *_ACT_OPTIONS))
def lift_command(by: str | None, as_json: bool, yes: bool, dry_run: bool, timeout: float, **options: Any) -> None:
    """Let in again what an erased person says from now on. What was erased stays erased."""
    settings = load_settings()
    selector = _selector(settings, options)
    if selector.kind in {"email", "phone"}:
        raise ConfigurationError(f"--{selector.kind}: nothing erased is known by it. Use --session or --fingerprint.")
    _act(
        settings,
        selector,
        lift,
        question="Let this person in again?",
        by=by,
        as_json=as_json,
        yes=yes,
        dry_run=dry_run,
        timeout_seconds=timeout,
        copies=[],
    )


def _act(
    settings: Settings,
    selector: Selector,
    act: Callable[..., Coroutine[Any, Any, Erased]],
    *,
    question: str,
    by: str | None,
    as_json: bool,
    yes: bool,
    dry_run: bool,
    timeout_seconds: float,
    copies: list[Copy],
) -> None:
    if not (yes or dry_run) and not sys.stdin.isatty():
        raise click.UsageError("Without a terminal to ask on, give --yes or --dry-run.")

    async def work() -> tuple[Person, Erased | None]:
        async with People.connect(settings) as people:
            person, states = await locate(settings, people, selector)
            rows = await people.rows_left(person)
            if not as_json:
                click.echo("\n".join(_described(person, states, rows)))
            if dry_run or not (yes or await asyncio.to_thread(click.confirm, question)):
                return person, None
            return person, await act(
                settings,
                people,
                selector,
                person,
                requested_by=_requested_by(by),
                timeout_seconds=timeout_seconds,
            )

    person, result = _run(work())
    if as_json:
        click.echo(json.dumps(_as_dict(person, result, copies if result else []), indent=2))
    elif result is not None:
        click.echo("\n".join(_reported(result, copies)))
    if result is not None and not result.complete:
        sys.exit(1)


def _described(person: Person, states: dict[bytes, State], rows: int) -> list[str]:
    lines = [
        f"{len(person.session_ids)} session(s), {len(person.fingerprints)} browser(s), {rows} row(s) in the database, "
        f"{len(states)} state(s) in the session table"
    ]
    erased = {state["session_id"] for state in states.values() if state.get("status") == "erased"}
    for session_id in sorted(person.session_ids):
        mark = "  erased before" if session_id in erased else ""
        lines.append(f"  session     {short_hash(person.tenant_id, 'session', session_id)}{mark}")
    return lines + [
        f"  fingerprint {short_hash(person.tenant_id, 'fingerprint', fingerprint)}"
        for fingerprint in sorted(person.fingerprints)
    ]


def _reported(result: Erased, copies: list[Copy]) -> list[str]:
    if result.complete:
        lines = [f"Done. Request {result.request_id}."]
    else:
        lines = [
            f"Not complete yet: {len(result.waiting_for)} session(s) wait for their enricher or the sink, "
            f"{result.rows_left} row(s) are left. The commands stand on the topic and will be obeyed; call it again to "
            f"see. Request {result.request_id}.",
            *(f"  session     {session}" for session in result.waiting_for),
        ]
    if copies:
        lines.append("Copies that remain, and until when at the latest:")
    for copy in copies:
        until = "not ours to say" if copy.until is None else copy.until.isoformat(timespec="minutes")
        note = f" ({copy.note})" if copy.note else ""
        lines.append(f"  {until:<22} {copy.place}: {copy.what}{note}")
    return lines


def _as_dict(person: Person, result: Erased | None, copies: list[Copy]) -> dict[str, Any]:
    answer: dict[str, Any] = {
        "session_hashes": person.session_hashes(),
        "fingerprint_hashes": person.fingerprint_hashes(),
    }
    if result is not None:
        answer |= {
            "request_id": result.request_id,
            "complete": result.complete,
            "waiting_for": result.waiting_for,
            "rows_left": result.rows_left,
            "copies": [copy.as_dict() for copy in copies],
        }
    return answer
