"""The whole product with two consoles, and a Chromium to look at them: for browser tests and screenshots.

From: Debian's chromium, the embedded broker and database. Two consoles read the same topics: an open one, as
`nexus dev` starts it, and one with an operator's and a viewer's token. Everything is on loopback and stopped by whoever
started it.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from nexus_stream.embedded.broker import EmbeddedBroker
from nexus_stream.embedded.demo_conversations import CONVERSATIONS
from nexus_stream.embedded.postgres import EmbeddedPostgres
from tests.stack import Stack

if TYPE_CHECKING:
    from playwright.async_api import Browser, BrowserContext, Page, Request, Response

__all__ = ["CHROMIUM", "OPERATOR_TOKEN", "VIEWER_TOKEN", "Stage", "Visit", "browser", "missing", "stage", "within"]

CHROMIUM = Path("/usr/bin/chromium")
OPERATOR_TOKEN = "operator-token-for-tests"
VIEWER_TOKEN = "viewer-token-for-tests"
_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
_LOOPBACK = ("127.0.0.1", "localhost", "::1")
PHONE = {"width": 390, "height": 844}
DESK = {"width": 1360, "height": 900}


def missing() -> str | None:
    """What the browser tier lacks here; None if nothing."""
    if not CHROMIUM.exists():
        return f"{CHROMIUM}: apt-get install chromium"
    return None if find_spec("playwright") else "playwright: pip install playwright"


@dataclass(slots=True)
class Stage:
    """The running product."""

    stack: Stack

    @property
    def url(self) -> str:
        """The open console."""
        return self.stack.processes["console"].url

    @property
    def guarded_url(self) -> str:
        """The console with tokens."""
        return self.stack.processes["guarded"].url

    def post(self, session_id: str, *turns: str, fingerprint: str | None = None, tenant: str = "") -> None:
        """Post a conversation whose turns alternate, the user first."""
        messages = [
            {"role": ("user", "assistant")[number % 2], "content": content} for number, content in enumerate(turns)
        ]
        body: dict[str, Any] = {
            "messages": messages,
            "sessionId": session_id,
            "metadata": {"url": "https://www.example.com/"},
        }
        if fingerprint is not None:
            body["fingerprint"] = fingerprint
        status, answer = self.stack.post(body, {"x-tenant-id": tenant} if tenant else {})
        assert status == 202, answer

    def post_demo(self) -> None:
        """The conversations of ``nexus demo``, whole, and a few more people."""
        for chat in CONVERSATIONS:
            self.post(f"demo-{chat.visitor}", *(turn.content for turn in chat.turns), fingerprint=f"fp-{chat.visitor}")
        for number, (name, job) in enumerate(
            [("Marcela Ríos", "diseñadora"), ("Julián Ortega", "ingeniero"), ("Paula Nieto", "enfermera")]
        ):
            self.post(
                f"web-{number:03}",
                f"Hola, me llamo {name} y trabajo como {job}",
                "¡Hola! ¿En qué te ayudo?",
                f"Quiero empezar. Mi correo es {name.split()[0].lower().replace('á', 'a')}{number}@example.com",
                "¡Gracias!",
                "¿Es muy caro? No tengo tiempo entre semana",
                fingerprint=f"fp-web-{number}",
                tenant="acme" if number == 1 else "",
            )
        # The same browser again: another session of the same person.
        self.post("demo-lucia-2", "Hola de nuevo, soy Lucía", fingerprint="fp-lucia")

    async def fail_some(self, count: int = 3) -> None:
        """Records that become dead letters."""
        records: list[tuple[bytes | None, bytes | None]] = [
            (b"broken-%d" % n, b"{ no json %d" % n) for n in range(count)
        ]
        shape = json.dumps({"messages": "none", "sessionId": "odd-shape", "note": "<script>alert(1)</script>"})
        records.append((b"odd-shape", shape.encode()))
        await self.stack.produce(self.stack.settings.ingestion_topic, records)


@contextmanager
def stage(folder: Path) -> Iterator[Stage]:
    """Start everything and wait until all is ready."""
    folder.chmod(0o755)
    with (
        EmbeddedBroker.start(log_path=folder / "broker.log") as broker,
        EmbeddedPostgres.start(folder / "postgres") as database,
    ):
        stack = Stack(folder, broker.bootstrap_servers, database.dsn, NEXUS_SETTLE_SECONDS="0.3")
        try:
            asyncio.run(stack.prepare())
            stack.start_all("gateway", "enricher", "sink", "console")
            guarded = stack.start(
                "console",
                "guarded",
                NEXUS_DATA_DIR=str(folder / "data" / "guarded"),
                NEXUS_CONSOLE_TOKEN=OPERATOR_TOKEN,
                NEXUS_CONSOLE_VIEWER_TOKEN=VIEWER_TOKEN,
            )
            guarded.wait_until_ready()
            yield Stage(stack)
        finally:
            stack.stop_all()


@asynccontextmanager
async def browser(folder: Path) -> AsyncIterator[Browser]:
    """Chromium with a home of its own."""
    from playwright.async_api import async_playwright

    async with async_playwright() as playwright:
        chromium = await playwright.chromium.launch(
            executable_path=str(CHROMIUM), args=list(_FLAGS), env={"HOME": str(folder)}, timeout=30_000
        )
        try:
            yield chromium
        finally:
            await chromium.close()


async def within(seconds: float, see: Callable[[int], Awaitable[None]]) -> None:
    """Do and see five things, each numbered from 0 on: at the median it takes less than so long.

    A machine that does something else meanwhile may be slow for a while: then five more, twice at the most.
    """
    rounds = []
    for first in (0, 5, 10):
        took = []
        for number in range(first, first + 5):
            started = time.monotonic()
            await see(number)
            took.append(time.monotonic() - started)
        rounds.append(took)
        if statistics.median(took) < seconds:
            return
    raise AssertionError(f"not within {seconds} s at the median: {rounds}")


@dataclass(slots=True)
class Visit:
    """A reader's window, and everything that must not happen in it.

    Attributes:
        problems: Console errors, failed or foreign requests, exceptions, violations of the page's policy.
    """

    context: BrowserContext
    page: Page
    problems: list[str] = field(default_factory=list)

    @classmethod
    async def begin(cls, chromium: Browser, **options: Any) -> Visit:
        """Open a window. Options are Playwright's: viewport, color_scheme, locale."""
        context = await chromium.new_context(**{"viewport": DESK, "locale": "en-GB", **options})
        page = await context.new_page()
        visit = cls(context, page)
        await page.add_init_script(
            "addEventListener('securitypolicyviolation', e => console.error('CSP', e.violatedDirective, e.blockedURI))"
        )
        page.on("console", lambda message: visit._on_console(message.type, message.text))
        page.on("pageerror", lambda error: visit.problems.append(f"exception: {error}"))
        # Playwright hangs a name of its own on what it calls, which a method of a class with slots refuses.
        context.on("request", lambda request: visit._on_request(request))  # noqa: PLW0108
        context.on("response", lambda response: visit._on_response(response))  # noqa: PLW0108
        page.on("dialog", lambda dialog: visit.problems.append(f"dialog: {dialog.message}"))
        return visit

    def _on_console(self, kind: str, text: str) -> None:
        if kind in {"error", "warning"}:
            self.problems.append(f"console {kind}: {text}")

    def _on_request(self, request: Request) -> None:
        host = urlsplit(request.url).hostname
        if host not in _LOOPBACK and not request.url.startswith("data:"):
            self.problems.append(f"request leaves the machine: {request.url}")

    def _on_response(self, response: Response) -> None:
        if response.status >= 500:
            self.problems.append(f"{response.status}: {response.url}")

    async def log_in(self, url: str, token: str, name: str = "Ana") -> None:
        """Through the form."""
        await self.page.goto(f"{url}/login")
        await self.page.fill("#token", token)
        await self.page.fill("#name", name)
        await self.page.click("button[type=submit]:has-text('Log in')")
        await self.page.wait_for_url(f"{url}/")

    async def end(self) -> None:
        """Close the window; nothing that must not happen has happened.

        Raises:
            AssertionError: with what did.
        """
        await self.context.close()
        assert not self.problems, self.problems
