"""OUR stand-in for Claude's Messages API, for chaos rows: it answers the load's conversations, and keeps the books.

From: the real SDK inside an enricher. To: an answer of schema_v2.json made from the conversation's own words. It knows
per snapshot how often it was asked and which requests are open; it can be slow, overloaded, limited, silent or cut off.
It proves nothing about the real model, only what we pay for.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
import time
from dataclasses import dataclass, field
from typing import Any, Literal, Self

from aiohttp import web

from nexus_stream.contracts.conversation import Conversation, digest

__all__ = ["REFUSED_WORD", "Call", "ClaudeStandIn", "Mode"]

Mode = Literal["answer", "late", "overloaded", "limited", "hang", "cut", "flaky"]

# A conversation with it is refused, as the real model refuses some.
REFUSED_WORD = "veneno"

_NAME = re.compile(r"me llamo ((?:[A-Z]\w+ ?)+)")
_EMAIL = re.compile(r"[\w.]+@example\.com")


@dataclass(slots=True)
class Call:
    """One request that was answered or will be: what a model would bill. Unix seconds."""

    digest: str
    started_at: float
    ended_at: float | None = None


@dataclass
class ClaudeStandIn:
    """Listens on a loopback port; use it as an async context manager.

    Attributes:
        latency_seconds: Of an answer, from and to.
        mode: What the next requests get.
        calls: Every call in the modes ``answer`` and ``late``, by arrival.
        refusals_sent: How many requests got no answer, by mode.
    """

    latency_seconds: tuple[float, float] = (0.1, 0.4)
    mode: Mode = "answer"
    calls: list[Call] = field(default_factory=list)
    refusals_sent: dict[str, int] = field(default_factory=dict)
    random: random.Random = field(default_factory=lambda: random.Random(7))  # noqa: S311 - repeatable, not secret
    url: str = ""
    _runner: web.AppRunner | None = None
    _released: asyncio.Event = field(default_factory=asyncio.Event)

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.router.add_post("/v1/messages", self._handle)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1, access_log=None)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._released.set()
        if self._runner is not None:
            await self._runner.cleanup()

    def set_mode(self, mode: Mode) -> None:
        """Change what requests get; when it is left, those that hang end without an answer, and late ones with one."""
        self.mode = mode
        if mode not in {"hang", "late"}:
            self._released.set()
            self._released = asyncio.Event()

    def open_calls(self) -> list[Call]:
        """Requests that are being answered now."""
        return [call for call in self.calls if call.ended_at is None]

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        mode = self.mode
        if mode == "flaky":
            mode = "overloaded" if self.random.random() < 0.5 else "answer"
        if mode not in {"answer", "late"}:
            self.refusals_sent[mode] = self.refusals_sent.get(mode, 0) + 1
        match mode:
            case "overloaded":
                return _error(529, "overloaded_error")
            case "limited":
                return _error(429, "rate_limit_error", {"retry-after": "1"})
            case "hang" | "cut":
                if mode == "hang":
                    await self._released.wait()
                if request.transport is not None:
                    request.transport.abort()
                return web.Response()
        return await self._answer(body, late=mode == "late")

    async def _answer(self, body: dict[str, Any], *, late: bool) -> web.Response:
        turns = json.loads(_user_text(body))
        call = Call(_digest(turns), time.time())
        self.calls.append(call)
        try:
            if late:
                await self._released.wait()
            else:
                await asyncio.sleep(self.random.uniform(*self.latency_seconds))
            return web.json_response(_message(turns))
        finally:
            # Also when the client is gone: the model has done the work.
            call.ended_at = time.time()


def _user_text(body: dict[str, Any]) -> str:
    content = body["messages"][0]["content"]
    return content if isinstance(content, str) else str(content[0]["text"])


def _digest(turns: list[dict[str, Any]]) -> str:
    messages = [{"role": turn["role"], "content": turn["content"]} for turn in turns]
    return digest(Conversation.model_validate({"messages": messages, "sessionId": "any"}))


def _message(turns: list[dict[str, Any]]) -> dict[str, Any]:
    said = [(turn["turn"], turn["content"]) for turn in turns if turn["role"] == "user"]
    refused = any(REFUSED_WORD in content for _, content in said)
    name, email, evidence = None, None, []
    for turn, content in said:
        if found := _NAME.search(content):
            name = found.group(1).strip()
            evidence.append({"senal": "nombre", "turno": turn, "cita": name})
        if found := _EMAIL.search(content):
            if email is not None:
                evidence.append({"senal": "correccion_email", "turno": turn, "cita": found.group()})
            email = found.group()
            evidence.append({"senal": "email", "turno": turn, "cita": email})
    answer = {
        "nombre": name,
        "email": email,
        "telefono": None,
        "ocupacion": None,
        "arquetipo": None,
        "objeciones": [],
        "evidencias": evidence[-50:],
    }
    return {
        "id": "msg_stand_in",
        "type": "message",
        "role": "assistant",
        "model": "claude-haiku-5-5",
        "content": [] if refused else [{"type": "text", "text": json.dumps(answer, ensure_ascii=False)}],
        "stop_reason": "refusal" if refused else "end_turn",
        "stop_sequence": None,
        "usage": {"input_tokens": 700, "output_tokens": 120},
    }


def _error(status: int, kind: str, headers: dict[str, str] | None = None) -> web.Response:
    body = {"type": "error", "error": {"type": kind, "message": "stand-in"}}
    return web.json_response(body, status=status, headers=headers)
