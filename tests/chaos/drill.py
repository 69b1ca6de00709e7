"""The fault drill: each alert provoked by a real fault on the whole product, timed at a receiver of its webhook.

From: one stack on the embedded broker and PostgreSQL, a stand-in for Claude, the console with lowered thresholds. To:
the table of docs/reference/alerts.md (``python -m tests.chaos.drill``) and test_drill.py. The clock is the receiver's:
seconds from the fault to the signed ``firing``, and from its end to the signed ``resolved``, so that watching, waiting
out the alert's own times and posting are all in them.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
from aiokafka import AIOKafkaProducer

from nexus_stream.console.alerts.conditions import AlertKind
from nexus_stream.embedded.postgres import EmbeddedPostgres
from nexus_stream.embedded.processes import last_lines
from nexus_stream.kafka.clients import client_options
from tests.chaos.claude_stand_in import ClaudeStandIn
from tests.chaos.environment import Environment
from tests.chaos.webhook_receiver import SECRET, WebhookReceiver
from tests.stack import Stack, eventually

__all__ = ["Drill", "Measured", "table"]

# A loaded machine's bound; persistence has one of its own (test_drill.py).
_FIRE_SECONDS = 90.0
_CLEAR_SECONDS = 90.0
_QUIET_SECONDS = 90.0
_OLD_MINUTES = 40
_CHATS = 12

THRESHOLDS = {
    "NEXUS_ALERT_LAG_RECORDS": "20",
    "NEXUS_ALERT_LATENCY_SECONDS": "2",
    "NEXUS_ALERT_WAITING_SECONDS": "3",
    "NEXUS_ALERT_NO_PROGRESS_SECONDS": "5",
    "NEXUS_ALERT_WINDOW_SECONDS": "10",
    "NEXUS_ALERT_FOR_SECONDS": "1",
    "NEXUS_ALERT_CLEAR_SECONDS": "2",
    # Half of it is 30 minutes.
    "NEXUS_INGESTION_RETENTION_HOURS": "1",
}


@dataclass(frozen=True, slots=True)
class Measured:
    """One line of the table; None where it did not come in time."""

    alert: str
    fault: str
    seconds_to_fire: float | None
    end: str
    seconds_to_clear: float | None


class Drill:
    """A running drill.

    Args:
        environment: The embedded broker and a database server.
        folder: For logs and data.
        tell: Told what goes on.
    """

    def __init__(self, environment: Environment, folder: Path, tell: Callable[[str], None] = lambda line: None) -> None:
        self.environment = environment
        self.measured: list[Measured] = []
        self.receiver = WebhookReceiver()
        self.claude = ClaudeStandIn((0.05, 0.1))
        self.seconds = 0.0
        self._folder = folder
        self._tell = tell
        self._number = 0
        self.stack: Stack

    async def run(self) -> list[Measured]:
        """All faults, one after the other; each ends before the next begins."""
        started = time.monotonic()
        async with self.receiver, self.claude:
            await self._prepare()
            try:
                await self._post_chats(_CHATS)
                for fault in (
                    self.slow_claude,
                    self.malformed_and_no_database,
                    self.overloaded_claude,
                    self.refused_sink,
                    self.absent_gateway,
                    self.dead_enricher,
                    self.spent_budget,
                    self.frozen_broker,
                ):
                    await fault()
                    await self._until_quiet()
            finally:
                await asyncio.to_thread(self.stack.stop_all)
        self.seconds = time.monotonic() - started
        return self.measured

    async def _prepare(self) -> None:
        dsn = await self.environment.create_database(f"drill-{int(time.time()) % 1_000_000}")
        self.stack = Stack(
            self._folder,
            self.environment.bootstrap_servers,
            dsn,
            **{
                "NEXUS_TOPIC_PARTITIONS": "2",
                "NEXUS_SETTLE_SECONDS": "0.2",
                "NEXUS_MAX_WAIT_SECONDS": "2",
                "NEXUS_EXTRACTOR": "claude",
                "NEXUS_CLAUDE_BREAKER_SECONDS": "1",
                "NEXUS_CLAUDE_TIMEOUT_SECONDS": "20",
                # As often as the drill likes.
                "NEXUS_CLAUDE_REQUESTS_PER_MINUTE": "60000",
                "NEXUS_CLAUDE_INPUT_TOKENS_PER_MINUTE": "100000000",
                "NEXUS_CLAUDE_OUTPUT_TOKENS_PER_MINUTE": "100000000",
                "NEXUS_KAFKA_MAX_POLL_INTERVAL_SECONDS": "86400",
                "NEXUS_DATABASE_CONNECT_TIMEOUT_SECONDS": "3",
                "NEXUS_LOG_FORMAT": "json",
                "ANTHROPIC_API_KEY": "sk-test-0000",
                "ANTHROPIC_BASE_URL": self.claude.url,
                "NEXUS_ALERT_WEBHOOK_URL": self.receiver.url,
                "NEXUS_ALERT_WEBHOOK_SECRET": SECRET,
                **THRESHOLDS,
            },
        )
        await self.stack.prepare()
        await asyncio.to_thread(self.stack.start_all, "gateway", "enricher", "sink", "console")
        await self._until_quiet()

    # Faults

    async def slow_claude(self) -> None:
        """Claude takes longer than the alert allows, and is quick again."""
        self.claude.latency_seconds = (5.0, 5.5)
        began = time.monotonic()
        await self._post_chats(_CHATS)
        fired = await self._fired(AlertKind.LATENCY, "enricher", began)
        self.claude.latency_seconds = (0.05, 0.1)
        ended = time.monotonic()
        # What is finished quickly shows that it is over.
        await self._post_chats(_CHATS)
        await self._note(AlertKind.LATENCY, "enricher", "Claude takes 5 s", fired, "Claude is quick again", ended)

    async def malformed_and_no_database(self) -> None:
        """Records that are no conversation; meanwhile PostgreSQL is stopped, and started again."""
        postgres = self.environment.postgres
        await asyncio.to_thread(postgres.stop)
        stopped = time.monotonic()
        await self._post_chats(_CHATS)
        malformed = time.monotonic()
        await self.stack.produce(
            self.stack.settings.ingestion_topic, [(b"broken-%d" % n, b"{ no json %d" % n) for n in range(15)]
        )
        sent = time.monotonic()
        persistence = await self._fired(AlertKind.PERSISTENCE, "sink", stopped)
        letters = await self._fired(AlertKind.DEAD_LETTERS, "", malformed)
        errors = await self._fired(AlertKind.ERROR_RATE, "enricher", malformed)
        self.environment.postgres = await asyncio.to_thread(EmbeddedPostgres.start, postgres.data_dir, postgres.port)
        started = time.monotonic()
        fault, end = "15 records that are no JSON", "the last of them was sent"
        await self._note(
            AlertKind.PERSISTENCE, "sink", "PostgreSQL stopped", persistence, "PostgreSQL started", started
        )
        await self._note(AlertKind.ERROR_RATE, "enricher", fault, errors, end, sent)
        await self._note(AlertKind.DEAD_LETTERS, "", fault, letters, end, sent)

    async def overloaded_claude(self) -> None:
        """Claude answers 529."""
        self.claude.set_mode("overloaded")
        began = time.monotonic()
        await self._post_chats(_CHATS)
        fired = await self._fired(AlertKind.WAITING, "enricher", began)
        self.claude.set_mode("answer")
        ended = time.monotonic()
        await self._note(AlertKind.WAITING, "enricher", "Claude answers 529", fired, "Claude answers again", ended)

    async def refused_sink(self) -> None:
        """The database lacks a table: the sink ends with 78, and so does the next one."""
        await self.stack.fetch("ALTER TABLE prospect_sessions RENAME TO prospect_sessions_away")
        began = time.monotonic()
        await self._post_chats(2)
        fired = await self._fired(AlertKind.PERSISTENCE, "sink", began)
        missed = await self._fired(AlertKind.SILENT, "sink", began)
        await self._ended("sink")
        again = time.monotonic()
        self.stack.start("sink")
        await self._ended("sink")
        # It was away before it was refused again, and nothing was saved meanwhile.
        assert not [post for post in self.receiver.posts if post.alert == AlertKind.PERSISTENCE and post.at > again]
        await self.stack.fetch("ALTER TABLE prospect_sessions_away RENAME TO prospect_sessions")
        self.stack.start("sink")
        ended = time.monotonic()
        fault, end = "a table renamed: the sink ends with 78", "renamed back, sink started"
        await self._note(AlertKind.PERSISTENCE, "sink", fault, fired, end, ended)
        await self._note(AlertKind.SILENT, "sink", fault, missed, end, ended)

    async def absent_gateway(self) -> None:
        """The only gateway is told to stop, as a deployment does, and the new one does not come."""
        await asyncio.to_thread(self.stack.processes["gateway"].stop)
        stopped = time.monotonic()
        fired = await self._fired(AlertKind.SILENT, "gateway", stopped)
        self.stack.start("gateway")
        started = time.monotonic()
        await self._note(AlertKind.SILENT, "gateway", "SIGTERM of the only gateway", fired, "gateway started", started)

    async def dead_enricher(self) -> None:
        """``kill -9`` of the only enricher under load, with records that wait since long ago."""
        # A record that is finished and not committed would be the oldest one of its partition.
        await eventually(self._has_committed_all, seconds=_FIRE_SECONDS, what="all that was read to be committed")
        self.stack.processes["enricher"].kill()
        killed = time.monotonic()
        # Before the others, so that they are the oldest of every partition.
        await self._produce_old(4)
        old = time.monotonic()
        await self._post_chats(40)
        refused = await self._gateway_answers(503, old)
        kinds = (AlertKind.LAG, AlertKind.NO_PROGRESS, AlertKind.SILENT)
        fired = dict(
            zip(kinds, await asyncio.gather(*(self._fired(kind, "enricher", killed) for kind in kinds)), strict=True)
        )
        old_fired = await self._fired(AlertKind.OLD_MESSAGES, "enricher", old)
        self.stack.start("enricher")
        started = time.monotonic()
        accepts = asyncio.create_task(self._gateway_answers(200, started))
        end = "enricher started"
        for kind in kinds:
            await self._note(kind, "enricher", "`kill -9` of the only enricher under load", fired[kind], end, started)
        fault = f"no enricher, records {_OLD_MINUTES} min old (retention 1 h)"
        await self._note(AlertKind.OLD_MESSAGES, "enricher", fault, old_fired, end, started)
        self.measured.append(Measured("(gateway refuses with 503)", fault, refused, end, await accepts))

    async def spent_budget(self) -> None:
        """A day's cap that is spent already; then one above it."""
        cap_variable = "NEXUS_BUDGET_USD_PER_DAY"
        began = await self._restart_enricher(**{cap_variable: f"{await self._spent_usd():.6f}"})
        await self._post_chats(2)
        fired = await self._fired(AlertKind.BUDGET, "day", began)
        ended = await self._restart_enricher(**{cap_variable: "100"})
        fault = "enricher started with a cap that is spent"
        await self._note(AlertKind.BUDGET, "day", fault, fired, "started with one above it", ended)

    async def frozen_broker(self) -> None:
        """The broker is stopped (SIGSTOP: it keeps its memory) and goes on."""
        broker = self.environment.embedded
        assert broker is not None
        os.kill(broker.pid, signal.SIGSTOP)
        began = time.monotonic()
        try:
            fired = await self._fired(AlertKind.VIEW_LOST, "console", began)
        finally:
            os.kill(broker.pid, signal.SIGCONT)
        ended = time.monotonic()
        await self._note(AlertKind.VIEW_LOST, "console", "broker stopped", fired, "broker goes on", ended)

    # Parts of faults

    async def _ended(self, name: str) -> None:
        code = await asyncio.to_thread(self.stack.processes[name].process.wait, _FIRE_SECONDS)
        assert code == 78, f"{name} ended with {code}"  # sysexits.h: a configuration error

    async def _has_committed_all(self) -> bool:
        settings = self.stack.settings
        committed = await self.stack.committed(settings.enricher_app_id, settings.ingestion_topic)
        records = await self.stack.read_topic(settings.ingestion_topic)
        return all(committed[record.partition] > record.offset for record in records)

    async def _fired(self, alert: AlertKind, where: str, since: float) -> float | None:
        post = await self.receiver.wait_for(alert.value, where, "firing", since, _FIRE_SECONDS)
        self._tell(f"{alert.value}: {'did not fire' if post is None else f'fired after {post.at - since:.1f} s'}")
        return None if post is None else round(post.at - since, 1)

    async def _note(
        self, alert: AlertKind, where: str, fault: str, fired: float | None, end: str, ended: float
    ) -> None:
        # It may have cleared before the fault was over in our eyes: its window had passed, or the process it was about
        # was away while it was started again. That is a 0.
        began = max((post.at for post in self.receiver.posts if post.alert == alert.value), default=0.0)
        since = (
            ended if (alert.value, where) in {(one, at[: len(where)]) for one, at in self.receiver.firing} else began
        )
        post = await self.receiver.wait_for(alert.value, where, "resolved", since, _CLEAR_SECONDS)
        cleared = None if post is None else round(max(0.0, post.at - ended), 1)
        self._tell(f"{alert.value}: {'did not clear' if cleared is None else f'cleared after {cleared:.1f} s'}")
        self.measured.append(Measured(alert.value, fault, fired, end, cleared))

    async def _until_quiet(self) -> None:
        deadline = time.monotonic() + _QUIET_SECONDS
        while self.receiver.firing or not self._ready():
            assert time.monotonic() < deadline, f"still firing: {self.receiver.firing}; ready: {self._ready()}"
            await asyncio.sleep(0.1)

    def _ready(self) -> bool:
        return all(process.is_ready() for process in self.stack.processes.values())

    async def _spent_usd(self) -> float:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=30)) as client,
            client.get(f"{self.stack.processes['console'].url}/api/v1/overview") as answer,
        ):
            return float((await answer.json())["last_24_hours"]["usd"])

    async def _restart_enricher(self, **variables: str) -> float:
        """When the new one was started."""
        await asyncio.to_thread(self.stack.processes["enricher"].stop)
        started = time.monotonic()
        process = self.stack.start("enricher", **variables)
        await asyncio.to_thread(process.wait_until_ready)
        return started

    async def _post_chats(self, count: int) -> None:
        """New conversations through the gateway, each accepted."""
        url = f"{self.stack.processes['gateway'].url}/api/nexus/producer"
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=30)) as client:
            for _ in range(count):
                async with client.post(url, json=self._chat()) as answer:
                    assert answer.status == 202, await answer.text()

    def _chat(self) -> dict[str, Any]:
        self._number += 1
        content = f"Hola, me llamo Prueba Drill y mi correo es drill{self._number}@example.com"
        return {
            "messages": [{"role": "user", "content": content}],
            "sessionId": f"drill-{self._number}",
            "fingerprint": f"fp-drill-{self._number}",
        }

    async def _produce_old(self, a_partition: int) -> None:
        settings = self.stack.settings
        # One record a batch, as workers send: the embedded broker's end offset misses the rest of a larger one.
        producer = AIOKafkaProducer(**client_options(settings), acks="all", max_batch_size=1)
        await producer.start()
        try:
            time_ms = time.time_ns() // 1_000_000 - _OLD_MINUTES * 60_000
            for partition in range(settings.topic_partitions):
                for _ in range(a_partition):
                    chat = self._chat()
                    await producer.send_and_wait(
                        settings.ingestion_topic,
                        json.dumps(chat).encode(),
                        key=str(chat["sessionId"]).encode(),
                        partition=partition,
                        timestamp_ms=time_ms,
                    )
        finally:
            await producer.stop()

    async def _gateway_answers(self, status: int, since: float) -> float | None:
        """Seconds until its readiness has that status; and then a post is answered alike."""
        gateway = self.stack.processes["gateway"].url
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10)) as client:
            deadline = time.monotonic() + _FIRE_SECONDS
            while time.monotonic() < deadline:
                async with client.get(f"{gateway}/ready") as ready:
                    found = ready.status
                if found == status:
                    seconds = round(time.monotonic() - since, 1)
                    async with client.post(f"{gateway}/api/nexus/producer", json=self._chat()) as answer:
                        expected = 202 if status == 200 else status
                        assert answer.status == expected, await answer.text()
                        assert status == 200 or "Retry-After" in answer.headers
                    return seconds
                await asyncio.sleep(0.1)
        return None


def table(measured: Sequence[Measured]) -> str:
    """The table in Markdown."""

    def shown(seconds: float | None) -> str:
        return "never" if seconds is None else f"{seconds:.1f}"

    lines = [
        "| alert | fault | s to fire | its end | s to clear |",
        "| --- | --- | --- | --- | --- |",
        *(
            f"| {f'`{one.alert}`' if one.alert[0] != '(' else one.alert[1:-1]} | {one.fault} | "
            f"{shown(one.seconds_to_fire)} | {one.end} | {shown(one.seconds_to_clear)} |"
            for one in measured
        ),
    ]
    return "\n".join(lines)


async def _main(folder: Path) -> int:
    with Environment("embedded", folder / "services") as environment:
        drill = Drill(environment, folder / "stack", tell=lambda line: print(line, file=sys.stderr, flush=True))
        (folder / "stack").mkdir()
        try:
            measured = await drill.run()
        except BaseException:
            for name in ("console", "enricher", "sink", "gateway"):
                if (log := folder / "stack" / f"{name}.log").exists():
                    print(f"--- {name}\n{last_lines(log, 25)}", file=sys.stderr)
            raise
    first = min((post.at for post in drill.receiver.posts), default=0.0)
    for post in drill.receiver.posts:
        print(f"{post.at - first:7.1f} s  {post.state:8}  {post.alert} {post.where}", file=sys.stderr)
    print(f"{table(measured)}\n\n{len(drill.receiver.posts)} webhooks, {drill.seconds:.0f} s")
    for problem in drill.receiver.problems:
        print(f"PROBLEM: {problem}")
    return 1 if drill.receiver.problems or any(None in (m.seconds_to_fire, m.seconds_to_clear) for m in measured) else 0


def main() -> int:
    """Run it and print the table; 1 if an alert did not fire or did not clear."""
    argparse.ArgumentParser(prog="python -m tests.chaos.drill", description=__doc__).parse_args()
    # Refused connections are the point.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    # Not below the checkout: the database server's own user has to reach its data.
    with tempfile.TemporaryDirectory(prefix="nexus-drill-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)
        return asyncio.run(_main(Path(folder)))


if __name__ == "__main__":
    sys.exit(main())
