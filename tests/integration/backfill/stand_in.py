"""OUR stand-in for the Message Batches API, because no faithful one exists.

It proves our requests, our state and our payments, and nothing about Claude. Its answers are validated with the SDK's
own models before it sends them. Results come in random order.
"""

from __future__ import annotations

import json
import random
import re
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Self

from aiohttp import web
from anthropic.types.messages import DeletedMessageBatch, MessageBatch, MessageBatchIndividualResponse

__all__ = ["BatchesStandIn"]

_NAME = re.compile(r"me llamo ((?:[A-Z]\w+ ?)+)")
# A word in a conversation -> the result of its request, every time or ("once") only the first time.
_FATES = {
    "veneno": "refusal",
    "eterno": "max_tokens",
    "torcido": "bad_answer",
    "torcidouna": "bad_answer_once",
    "saturado": "overloaded",
    "saturadouna": "overloaded_once",
    "caduco": "expired",
    "caducouna": "expired_once",
    "rechazo": "invalid_request_error",
    "perdidouna": "missing_once",
}


@dataclass
class _Stored:
    number: int
    created_at: datetime
    requests: list[dict[str, Any]]
    polls: int = 0
    results: list[dict[str, Any]] | None = None
    cancelled: bool = False


@dataclass
class BatchesStandIn:
    """Listens on a loopback port; an async context manager.

    Attributes:
        polls_until_end: Number of polls after which a batch has ended.
        paid: Number of billed answers, by the first user turn of the conversation.
        created: The requests of every batch, by batch id.
        deleted: The ids of deleted batches.
        live_calls: Number of POSTs to the Messages API itself.
        broken_results: Number of next reads of results that break off in the middle.
        lost_answers: Number of next creations that succeed, but whose connection ends without an answer.
        refused_creations: The (status, type) of the errors for the next creations.
        rejects_all: Whether every request is rejected.
    """

    polls_until_end: int = 1
    paid: Counter[str] = field(default_factory=Counter)
    created: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    deleted: list[str] = field(default_factory=list)
    live_calls: int = 0
    broken_results: int = 0
    lost_answers: int = 0
    refused_creations: list[tuple[int, str]] = field(default_factory=list)
    rejects_all: bool = False
    url: str = ""
    _batches: dict[str, _Stored] = field(default_factory=dict)
    _seen: Counter[str] = field(default_factory=Counter)
    _random: random.Random = field(default_factory=lambda: random.Random(11))  # noqa: S311 - repeatable, not secret
    _runner: web.AppRunner | None = None

    async def __aenter__(self) -> Self:
        app = web.Application(client_max_size=64 * 1024 * 1024)
        app.router.add_post("/v1/messages/batches", self._create)
        app.router.add_get("/v1/messages/batches", self._list)
        app.router.add_get("/v1/messages/batches/{id}", self._retrieve)
        app.router.add_get("/v1/messages/batches/{id}/results", self._results)
        app.router.add_delete("/v1/messages/batches/{id}", self._delete)
        app.router.add_post("/v1/messages", self._live)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1, access_log=None)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    def cancel(self) -> None:
        """Cancel every batch that has not ended, as a user of the console may do."""
        for stored in self._batches.values():
            stored.cancelled = stored.cancelled or stored.results is None

    def forget(self, batch_id: str) -> None:
        """Delete a batch, as a user of the console may do."""
        del self._batches[batch_id]

    def add_foreign(self, requests: int) -> str:
        """Add a batch of another program in the same workspace."""
        params = {"messages": [{"role": "user", "content": json.dumps([{"role": "user", "content": "ajeno"}])}]}
        return self._add([{"custom_id": f"other-{number}", "params": params} for number in range(requests)])

    @property
    def open_batches(self) -> list[str]:
        """The batches that Anthropic would still store."""
        return list(self._batches)

    async def _create(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        if self.refused_creations:
            status, kind = self.refused_creations.pop(0)
            return _error(status, kind)
        requests = body["requests"]
        ids = [one["custom_id"] for one in requests]
        assert len(set(ids)) == len(ids)
        assert all(re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", one) for one in ids)
        batch_id = self._add(requests)
        if self.lost_answers:
            self.lost_answers -= 1
            assert request.transport is not None
            request.transport.abort()
            return web.Response()
        return web.json_response(self._described(batch_id))

    def _add(self, requests: list[dict[str, Any]]) -> str:
        batch_id = f"msgbatch_{len(self.created) + 1:04}"
        self._batches[batch_id] = _Stored(len(self.created), datetime.now(UTC), requests)
        self.created[batch_id] = requests
        return batch_id

    async def _list(self, request: web.Request) -> web.StreamResponse:
        ids = sorted(self._batches, key=lambda one: -self._batches[one].number)
        if after := request.query.get("after_id"):
            ids = ids[ids.index(after) + 1 :]
        limit = int(request.query.get("limit", "20"))
        page = ids[:limit]
        for batch_id in page:
            self._look(batch_id)
        return web.json_response(
            {
                "data": [self._described(batch_id) for batch_id in page],
                "has_more": len(ids) > limit,
                "first_id": page[0] if page else None,
                "last_id": page[-1] if page else None,
            }
        )

    async def _retrieve(self, request: web.Request) -> web.StreamResponse:
        batch_id = request.match_info["id"]
        if batch_id not in self._batches:
            return _error(404, "not_found_error")
        self._look(batch_id)
        return web.json_response(self._described(batch_id))

    def _look(self, batch_id: str) -> None:
        stored = self._batches[batch_id]
        stored.polls += 1
        if stored.results is None and stored.polls >= self.polls_until_end:
            stored.results = []
            for one in stored.requests:
                result = {"type": "canceled"} if stored.cancelled else self._result(one)
                if result is not None:
                    line = {"custom_id": one["custom_id"], "result": result}
                    MessageBatchIndividualResponse.model_validate(line)
                    stored.results.append(line)
            self._random.shuffle(stored.results)

    async def _results(self, request: web.Request) -> web.StreamResponse:
        stored = self._batches.get(request.match_info["id"])
        if stored is None or stored.results is None:
            return _error(404, "not_found_error")
        lines = [json.dumps(one).encode() + b"\n" for one in stored.results]
        body = b"".join(lines)
        response = web.StreamResponse(headers={"Content-Type": "application/x-jsonl", "Content-Length": str(len(body))})
        await response.prepare(request)
        if self.broken_results:
            self.broken_results -= 1
            await response.write(b"".join(lines[: len(lines) // 2]) + lines[-1][:20])
            assert request.transport is not None
            request.transport.close()
            return response
        await response.write(body)
        return response

    async def _delete(self, request: web.Request) -> web.StreamResponse:
        batch_id = request.match_info["id"]
        stored = self._batches.get(batch_id)
        if stored is None:
            return _error(404, "not_found_error")
        if stored.results is None:
            return _error(400, "invalid_request_error")
        del self._batches[batch_id]
        self.deleted.append(batch_id)
        body = {"id": batch_id, "type": "message_batch_deleted"}
        DeletedMessageBatch.model_validate(body)
        return web.json_response(body)

    async def _live(self, _: web.Request) -> web.StreamResponse:
        self.live_calls += 1
        return _error(529, "overloaded_error")

    def _described(self, batch_id: str) -> dict[str, Any]:
        stored = self._batches[batch_id]
        kinds = Counter(one["result"]["type"] for one in stored.results or [])
        ended = stored.results is not None
        body = {
            "id": batch_id,
            "type": "message_batch",
            "processing_status": "ended" if ended else "in_progress",
            "request_counts": {
                "processing": 0 if ended else len(stored.requests),
                "succeeded": kinds["succeeded"],
                # A request that is missing from the results is still counted.
                "errored": len(stored.requests) - kinds["succeeded"] - kinds["canceled"] - kinds["expired"]
                if ended
                else 0,
                "canceled": kinds["canceled"],
                "expired": kinds["expired"],
            },
            "created_at": stored.created_at.isoformat(),
            "expires_at": (stored.created_at + timedelta(hours=24)).isoformat(),
            "ended_at": datetime.now(UTC).isoformat() if ended else None,
            "cancel_initiated_at": None,
            "archived_at": None,
            "results_url": f"{self.url}/v1/messages/batches/{batch_id}/results" if ended else None,
        }
        MessageBatch.model_validate(body)
        return body

    def _result(self, one: dict[str, Any]) -> dict[str, Any] | None:
        content = one["params"]["messages"][0]["content"]
        turns = json.loads(content if isinstance(content, str) else content[0]["text"])
        said = next(turn["content"] for turn in turns if turn["role"] == "user")
        self._seen[said] += 1
        fate = next((_FATES[word] for word in said.split() if word in _FATES), "answer")
        if fate.endswith("_once"):
            fate = fate.removesuffix("_once") if self._seen[said] == 1 else "answer"
        if self.rejects_all:
            fate = "invalid_request_error"
        match fate:
            case "expired":
                return {"type": "expired"}
            case "missing":
                return None
            case "overloaded":
                return _errored("overloaded_error")
            case "invalid_request_error":
                return _errored(fate)
        self.paid[said] += 1
        text = "no es JSON" if fate == "bad_answer" else json.dumps(_answer(turns), ensure_ascii=False)
        stop_reason = fate if fate in {"refusal", "max_tokens"} else "end_turn"
        return {"type": "succeeded", "message": _message(text, stop_reason)}


def _answer(turns: list[dict[str, Any]]) -> dict[str, Any]:
    name, evidence = None, []
    for turn in turns:
        if turn["role"] == "user" and (found := _NAME.search(turn["content"])):
            name = found.group(1).strip()
            evidence.append({"senal": "nombre", "turno": turn["turn"], "cita": name})
    # The e-mail is invented: the checks must drop it.
    return {
        "nombre": name,
        "email": "invented@example.org",
        "telefono": None,
        "ocupacion": None,
        "arquetipo": None,
        "objeciones": [],
        "evidencias": evidence,
    }


def _message(text: str, stop_reason: str) -> dict[str, Any]:
    return {
        "id": "msg_stand_in",
        "type": "message",
        "role": "assistant",
        "model": "claude-haiku-5-5",
        "content": [] if stop_reason == "refusal" else [{"type": "text", "text": text}],
        "stop_reason": stop_reason,
        "stop_sequence": None,
        "usage": {"input_tokens": 1000, "output_tokens": 200, "cache_read_input_tokens": 2000},
    }


def _errored(kind: str) -> dict[str, Any]:
    return {"type": "errored", "error": {"type": "error", "error": {"type": kind, "message": "stand-in"}}}


def _error(status: int, kind: str) -> web.Response:
    return web.json_response({"type": "error", "error": {"type": kind, "message": "stand-in"}}, status=status)
