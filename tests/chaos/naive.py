"""How Faust's documentation has an agent written; it loses records, and is here to prove that the tests can tell.

``faust -A tests.chaos.naive worker``. Same topics, same stand-in for Claude as the product's enricher; everything it
needs to know comes in variables that start with NAIVE_.
"""

from __future__ import annotations

import json
import os
from typing import Any

import aiohttp
import faust

_ENV = os.environ
_REMEMBERS = _ENV.get("NAIVE_REMEMBERS") == "yes"

app = faust.App(
    _ENV["NAIVE_APP_ID"],
    broker=f"kafka://{_ENV['NAIVE_BROKER']}",
    value_serializer="json",
    store="memory://",
    datadir=_ENV["NAIVE_DATA_DIR"],
    topic_partitions=1,
    topic_allow_declare=False,
    topic_disable_leader=True,
    broker_session_timeout=6.0,
    broker_heartbeat_interval=1.0,
    broker_rebalance_timeout=8.0,
    broker_request_timeout=11.0,
    broker_commit_interval=0.2,
    table_standby_replicas=0,
    # The default waits for what is in flight without a bound, until somebody sends SIGKILL.
    stream_wait_empty=_ENV.get("NAIVE_WAITS", "yes") == "yes",
    web_port=int(_ENV["NAIVE_WEB_PORT"]),
)
source = app.topic(_ENV["NAIVE_SOURCE"], value_type=bytes)
target = app.topic(_ENV["NAIVE_TARGET"], value_type=bytes)
seen = app.Table("seen", default=int)


@app.agent(source, concurrency=int(_ENV.get("NAIVE_CONCURRENCY", "1")))
async def enrich(conversations: Any) -> None:
    """Ask, then send on: the plain idiom."""
    async with aiohttp.ClientSession() as client:
        async for conversation in conversations:
            if _REMEMBERS:
                if seen[conversation["sessionId"]]:
                    continue
                seen[conversation["sessionId"]] = 1
            turns = [{"turn": index, **turn} for index, turn in enumerate(conversation["messages"])]
            body = {"messages": [{"role": "user", "content": json.dumps(turns)}]}
            async with client.post(f"{_ENV['NAIVE_CLAUDE']}/v1/messages", json=body) as answer:
                answer.raise_for_status()
                await answer.read()
            await target.send(key=conversation["sessionId"], value={"session_id": conversation["sessionId"]})
