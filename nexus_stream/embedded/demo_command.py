"""``nexus demo``: post a few conversations turn by turn to a running ``nexus dev`` and show the changes of the rows.

From: ``./.nexus/dev.json``, and rows of ``prospect_tracking``. To: the gateway, in the same way as the website's chat:
the whole conversation after every answer.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from typing import Any

import aiohttp
import asyncpg
import click
from rich.console import Console
from rich.table import Table

from nexus_stream.embedded.demo_conversations import CONVERSATIONS, DemoConversation
from nexus_stream.embedded.state import DevDirectory, DevInfo
from nexus_stream.errors import ConfigurationError, EmbeddedServiceError

__all__ = ["command"]

# Longer than the settle time of `nexus dev`, so that the row changes during the chat.
_TURN_SECONDS = 3.5
_FAST_TURN_SECONDS = 0.2
_POLL_SECONDS = 0.25
_QUIET_SECONDS = 4.0
_LAST_ROW_TIMEOUT_SECONDS = 60.0
_ACCEPTED = 202
_QUERY = "SELECT fingerprint_id, prospect_data::text FROM prospect_tracking WHERE fingerprint_id = ANY($1::text[])"

_FIELDS = ("nombre", "email", "telefono", "ocupacion", "nivel_interes", "momento_optimo", "objeciones", "arquetipo")

# Visitor -> prospect_data.
Rows = dict[str, dict[str, Any]]


@click.command(name="demo")
@click.option("--fast", is_flag=True, help="Do not wait between turns: each conversation settles once, at the end.")
def command(fast: bool) -> None:
    """Post a few conversations to `nexus dev` and watch the rows."""
    info = DevDirectory().read_info()
    if info is None:
        raise ConfigurationError("No `nexus dev` is ready in this directory. Start `make dev` here and wait.")
    # New ids for each run, because the same snapshots again would change nothing.
    run = secrets.token_hex(3)
    try:
        rows = asyncio.run(_demo(info, run, _FAST_TURN_SECONDS if fast else _TURN_SECONDS))
    except (OSError, aiohttp.ClientError, asyncpg.PostgresError) as error:
        raise click.ClickException(f"`nexus dev` does not answer any more: {error}") from error
    except EmbeddedServiceError as error:
        raise click.ClickException(str(error)) from error
    _show(rows)
    click.echo(f"Sessions and rows in the browser: {info.console_url}")


async def _demo(info: DevInfo, run: str, turn_seconds: float) -> Rows:
    connection = await asyncpg.connect(info.database_url)
    watch = _Watch(connection, {_fingerprint(chat, run): chat.visitor for chat in CONVERSATIONS})
    watching = asyncio.create_task(watch.run())
    try:
        async with aiohttp.ClientSession() as session:
            # The visitors start one after the other, and their chats overlap.
            chats = [
                _post(session, info.gateway_url, chat, run, number * turn_seconds / len(CONVERSATIONS), turn_seconds)
                for number, chat in enumerate(CONVERSATIONS)
            ]
            await asyncio.gather(*chats)
        await watch.until_quiet(time.monotonic() + _LAST_ROW_TIMEOUT_SECONDS, watching)
    finally:
        watching.cancel()
        await asyncio.wait({watching})
        await connection.close()
    return watch.rows


async def _post(
    session: aiohttp.ClientSession,
    gateway_url: str,
    chat: DemoConversation,
    run: str,
    start_after_seconds: float,
    turn_seconds: float,
) -> None:
    await asyncio.sleep(start_after_seconds)
    for number, turn in enumerate(chat.turns, 1):
        if turn.role == "user":
            click.echo(f"{chat.visitor:<10} says    {turn.content}")
        # The site sends after every answer, and again if the visitor leaves after an unanswered turn.
        if turn.role == "assistant" or number == len(chat.turns):
            body = {
                "messages": [each._asdict() for each in chat.turns[:number]],
                "fingerprint": _fingerprint(chat, run),
                "sessionId": f"demo-session-{chat.visitor}-{run}",
                "metadata": {"url": "https://www.example.com/oportunidad"},
            }
            async with session.post(f"{gateway_url}/api/nexus/producer", json=body) as response:
                if response.status != _ACCEPTED:
                    raise EmbeddedServiceError(f"The gateway answered {response.status}: {await response.text()}")
            await asyncio.sleep(turn_seconds)


class _Watch:
    """Polls the demo's rows and prints each field that changed."""

    def __init__(self, connection: asyncpg.Connection[Any], visitors: dict[str, str]) -> None:
        self.rows: Rows = {}
        self._connection = connection
        self._visitors = visitors
        self._changed_at = time.monotonic()

    async def run(self) -> None:
        """Poll the rows until cancelled."""
        while True:
            for fingerprint, text in await self._connection.fetch(_QUERY, list(self._visitors)):
                self._compare(self._visitors[fingerprint], json.loads(text))
            await asyncio.sleep(_POLL_SECONDS)

    def _compare(self, visitor: str, row: dict[str, Any]) -> None:
        before = self.rows.get(visitor, {})
        changes = [f"{name}={_text(row[name])}" for name in _FIELDS if name in row and row[name] != before.get(name)]
        if changes:
            click.echo(f"{visitor:<10} row     {', '.join(changes)}")
            self._changed_at = time.monotonic()
        self.rows[visitor] = row

    async def until_quiet(self, deadline: float, watching: asyncio.Task[None]) -> None:
        """Wait until every visitor has a row and no row changes any more.

        Raises:
            EmbeddedServiceError: rows are missing at the deadline.
        """
        self._changed_at = time.monotonic()
        while len(self.rows) < len(self._visitors) or time.monotonic() < self._changed_at + _QUIET_SECONDS:
            if watching.done():
                watching.result()
            if time.monotonic() > deadline:
                if len(self.rows) == len(self._visitors):
                    return
                missing = sorted(set(self._visitors.values()) - set(self.rows))
                raise EmbeddedServiceError(
                    f"There is no row for {', '.join(missing)}. See the terminal of `nexus dev` and .nexus/logs/."
                )
            await asyncio.sleep(_POLL_SECONDS)


def _fingerprint(chat: DemoConversation, run: str) -> str:
    return f"demo-{chat.visitor}-{run}"


def _text(value: object) -> str:
    if isinstance(value, list):
        return "+".join(str(each) for each in value) or "-"
    return "-" if value is None else str(value)


def _show(rows: Rows) -> None:
    # One column for each visitor: eight fields as columns would not fit a terminal.
    table = Table("", *rows, title="prospect_tracking now")
    for name in _FIELDS:
        table.add_row(name, *(_text(row.get(name)) for row in rows.values()))
    Console().print(table)
