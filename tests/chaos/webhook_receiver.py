"""A server that takes the console's webhooks, checks each signature, and knows what fires: the drill's clock.

From: the console. To: drill.py. It signs with the standard library alone, as docs/reference/alerts.md shows receivers.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import time
from dataclasses import dataclass, field
from typing import Any, Self

from aiohttp import web

__all__ = ["SECRET", "Post", "WebhookReceiver"]

_KEY = bytes(range(40, 72))
SECRET = f"whsec_{base64.b64encode(_KEY).decode()}"


@dataclass(frozen=True, slots=True)
class Post:
    """One webhook as it came, its signature checked."""

    at: float
    id: str
    alert: str
    where: str
    state: str
    body: dict[str, Any]


@dataclass
class WebhookReceiver:
    """A server that takes webhooks and checks each signature; an async context manager.

    Attributes:
        posts: What came, in order. ``at`` is the monotonic clock.
        problems: What was wrong with any.
    """

    posts: list[Post] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    url: str = ""
    _runner: web.AppRunner | None = None

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.router.add_post("/alerts", self._take)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1, access_log=None)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}/alerts"
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    async def _take(self, request: web.Request) -> web.Response:
        raw = await request.read()
        id_, timestamp = request.headers.get("webhook-id", ""), request.headers.get("webhook-timestamp", "")
        digest = hmac.new(_KEY, f"{id_}.{timestamp}.".encode() + raw, hashlib.sha256).digest()
        expected = f"v1,{base64.b64encode(digest).decode()}"
        if not hmac.compare_digest(expected, request.headers.get("webhook-signature", "")):
            self.problems.append(f"a wrong signature on {raw!r}")
            return web.Response(status=401)
        body = json.loads(raw)
        if id_ not in {post.id for post in self.posts}:
            post = Post(time.monotonic(), id_, body["alert"], body["where"], body["state"], body)
            if (body["state"] == "firing") == ((post.alert, post.where) in self.firing):
                self.problems.append(f"{body['state']} out of turn: {body}")
            self.posts.append(post)
        return web.Response(status=204)

    @property
    def firing(self) -> set[tuple[str, str]]:
        """Alert and where of what began and has not ended."""
        newest = {(post.alert, post.where): post.state for post in self.posts}
        return {alert for alert, state in newest.items() if state == "firing"}

    async def wait_for(self, alert: str, where: str, state: str, since: float, seconds: float) -> Post | None:
        """The first such post after that moment; None if it does not come in time."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            for post in self.posts:
                if post.at >= since and post.alert == alert and post.state == state and post.where.startswith(where):
                    return post
            await asyncio.sleep(0.05)
        return None
