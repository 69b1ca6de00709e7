"""One row: start the product, load it, hurt it, wait until it has caught up, judge.

From: a scenario and an environment. To: a `RowResult`. The row is its own supervisor: a process that ends is started
again, as systemd or a platform would; how often that was needed is part of the result.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from nexus_stream.embedded.processes import last_lines
from tests.chaos.claude_stand_in import ClaudeStandIn
from tests.chaos.environment import BrokerKind, Environment
from tests.chaos.ledger import SentLedger
from tests.chaos.load import GatewaySender, Load, TopicSender
from tests.chaos.verdict import Outage, Verdict, is_complete, judge
from tests.stack import Stack

__all__ = ["FULL", "SHORT", "Profile", "Row", "RowResult", "Scenario"]

_READY_SECONDS = 60.0
_RESTART_PAUSE_SECONDS = 0.5
_GIVE_UP_SECONDS = 10.0
_EX_CONFIG = 78
# Of the event loop, in which the stand-in reads every request that has arrived.
_TURNS = 20


@dataclass(frozen=True, slots=True)
class Profile:
    """How long a row is."""

    name: str
    snapshots: int
    snapshots_a_second: float
    snapshots_a_session: int
    open_sessions: int
    kills: int
    outage_seconds: float
    database_outage_seconds: float
    poison_every: int
    catch_up_seconds: float


# The load goes on until the faults are over, so half the rate is half the work; five calls are open at any time. The
# patience is a busy machine's.
SHORT = Profile("short", 240, 20, 3, 30, 2, 4, 5, 20, 180)
FULL = Profile("full", 20_000, 100, 10, 60, 20, 30, 30, 100, 900)


@dataclass(frozen=True, slots=True)
class Scenario:
    """What is done to the product while it is loaded.

    Attributes:
        faults: Runs beside the load; the load goes on until it returns.
        brokers: Where it makes sense.
        variables: Settings of every process.
        processes: Name to kind, as started.
        through_gateway: Whether the load is posted.
    """

    name: str
    title: str
    faults: Callable[[Row], Awaitable[None]]
    brokers: tuple[BrokerKind, ...] = ("embedded", "kafka")
    variables: Mapping[str, str] = field(default_factory=dict)
    processes: Mapping[str, str] = field(default_factory=lambda: {"enricher": "enricher", "sink": "sink"})
    through_gateway: bool = False
    poisoned: bool = False
    load: Mapping[str, Any] = field(default_factory=dict)
    latency_seconds: tuple[float, float] = (0.1, 0.4)


@dataclass
class RowResult:
    """One line of the table."""

    scenario: str
    broker: str
    profile: str
    verdict: Verdict
    kills: int
    restarts_by_supervisor: list[str]
    seconds_to_catch_up: float | None
    seconds: float
    notes: list[str]

    @property
    def passed(self) -> bool:
        """Whether every promise was kept."""
        return not self.verdict.problems

    def as_json(self) -> dict[str, Any]:
        """For the results folder."""
        return {**asdict(self), "passed": self.passed}


class Row:
    """A running row; scenarios use its public methods."""

    def __init__(self, scenario: Scenario, profile: Profile, environment: Environment, folder: Path) -> None:
        self.scenario = scenario
        self.profile = profile
        self.environment = environment
        self.random = random.Random(f"{scenario.name}-{environment.kind}")  # noqa: S311 - repeatable
        self.stand_in = ClaudeStandIn(scenario.latency_seconds)
        self.ledger = SentLedger()
        self.notes: list[str] = []
        self.without_promise: set[str] = set()
        self.stack: Stack
        self.sender: GatewaySender | TopicSender
        self._folder = folder
        self._outages: list[Outage] = []
        self._restarts: list[str] = []
        self._problems: list[str] = []
        self._expected_down: set[str] = set()
        self._kinds: dict[str, str] = {}

    async def run(self) -> RowResult:
        """Run it."""
        started = time.monotonic()
        self._folder.mkdir(parents=True, exist_ok=True)
        async with self.stand_in:
            await self._prepare()
            watch = asyncio.create_task(self._supervise())
            try:
                caught_up = await self._load_and_hurt()
                verdict = await judge(
                    self.stack, self.ledger, self.stand_in.calls, self._outages, without_promise=self.without_promise
                )
            finally:
                watch.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await watch
                await asyncio.to_thread(self.stack.stop_all)
        verdict.problems = self._problems + verdict.problems
        return RowResult(
            scenario=self.scenario.name,
            broker=self.environment.kind,
            profile=self.profile.name,
            verdict=verdict,
            kills=len(self._outages),
            restarts_by_supervisor=self._restarts,
            seconds_to_catch_up=caught_up,
            seconds=round(time.monotonic() - started, 1),
            notes=self.notes,
        )

    async def _prepare(self) -> None:
        name = f"{self.scenario.name}-{int(time.time()) % 1_000_000}"
        dsn = await self.environment.create_database(name)
        self.stack = Stack(
            self._folder,
            self.environment.bootstrap_servers,
            dsn,
            **{
                "NEXUS_TOPIC_PREFIX": f"{name}.",
                "NEXUS_ENRICHER_APP_ID": f"{name}-enricher",
                "NEXUS_SINK_APP_ID": f"{name}-sink",
                "NEXUS_SETTLE_SECONDS": "0.3",
                "NEXUS_MAX_WAIT_SECONDS": "2",
                "NEXUS_EXTRACTOR": "claude",
                "NEXUS_CLAUDE_TIMEOUT_SECONDS": "10",
                # Ask soon whether Claude is back: a short row's troubles last a few seconds each.
                "NEXUS_CLAUDE_BREAKER_SECONDS": "1",
                "NEXUS_DATABASE_CONNECT_TIMEOUT_SECONDS": "3",
                "NEXUS_LOG_FORMAT": "json",
                "ANTHROPIC_API_KEY": "sk-test-0000",
                "ANTHROPIC_BASE_URL": self.stand_in.url,
                **self.environment.variables,
                **self.scenario.variables,
            },
        )
        await self.stack.prepare()
        for process, kind in self.scenario.processes.items():
            self.start(process, kind)
        await self.until_ready(*self.scenario.processes)

    async def _load_and_hurt(self) -> float | None:
        if self.scenario.through_gateway:
            self.sender = GatewaySender(lambda: self.stack.processes["gateway"].url)
        else:
            self.sender = TopicSender(self.stack.settings)
        options: dict[str, Any] = {
            "snapshots": self.profile.snapshots,
            "snapshots_a_second": self.profile.snapshots_a_second,
            "snapshots_a_session": self.profile.snapshots_a_session,
            "open_sessions": self.profile.open_sessions,
            "poison_every": self.profile.poison_every if self.scenario.poisoned else 0,
            **self.scenario.load,
        }
        options["snapshots"] = max(options["snapshots"], self.profile.snapshots)
        load = Load(self.ledger, self.sender, **options)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(load.run())
                await self.scenario.faults(self)
                load.finish()
            return await self._catch_up()
        finally:
            await self.sender.close()

    async def _catch_up(self) -> float | None:
        started = time.monotonic()
        while time.monotonic() - started < self.profile.catch_up_seconds:
            if await is_complete(self.stack, self.ledger, but_not=self.without_promise):
                return round(time.monotonic() - started, 1)
            await asyncio.sleep(0.3)
        self._problems.append(f"not caught up after {self.profile.catch_up_seconds:.0f} s")
        return None

    # Processes

    def start(self, name: str, kind: str) -> None:
        """Start a process; the supervisor keeps it running from here on."""
        self._kinds[name] = kind
        self.stack.start(kind, name)
        self._expected_down.discard(name)

    async def until_ready(self, *names: str, seconds: float = _READY_SECONDS) -> None:
        """Wait until all answer ``/ready``."""
        deadline = time.monotonic() + seconds
        for name in names:
            while not await self._is_ready(name):
                assert not self._problems, self._problems[-1]
                if time.monotonic() > deadline:
                    raise AssertionError(await self._not_ready(name, seconds))
                await asyncio.sleep(0.1)

    async def _is_ready(self, name: str) -> bool:
        try:
            return await asyncio.to_thread(self.stack.processes[name].is_ready)
        except AssertionError:
            return False  # it ended; the supervisor has seen it or will

    async def _not_ready(self, name: str, seconds: float) -> str:
        """Where this process and the others of its kind stand: one that holds the group up may be another."""
        reason = await self._reason(name)
        kind = self._kinds[name]
        stands = [
            f"-- {other.name}\n{await asyncio.to_thread(other.tell_where_it_stands)}"
            for other in self.stack.processes.values()
            if other.kind == kind and other.process.poll() is None
        ]
        return "\n".join([f"{name} not ready in {seconds:.0f} s, because {reason}", *stands])

    async def _reason(self, name: str) -> str:
        try:
            async with (
                aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=3)) as client,
                client.get(f"{self.stack.processes[name].url}/ready") as answer,
            ):
                return await answer.text()
        except (aiohttp.ClientError, TimeoutError) as error:
            return f"it does not answer ({type(error).__name__})"

    async def kill(self, *names: str) -> None:
        """``kill -9``, all at once, and start them again."""
        for name in names:
            self._expected_down.add(name)
            self.stack.processes[name].process.send_signal(signal.SIGKILL)
        at = time.time()
        for name in names:
            await asyncio.to_thread(self.stack.processes[name].kill)
        await self.note_outage(at, ", ".join(names))
        for name in names:
            self.start(name, self._kinds[name])

    async def note_outage(self, at: float, what: str) -> None:
        """Note a moment at which calls in flight may have been lost, Unix seconds.

        A request that was sent before it may still wait in a socket of the stand-in, on a busy machine.
        """
        for _ in range(_TURNS):
            await asyncio.sleep(0)
        self._outages.append(Outage(at, time.time(), what, len(self.stand_in.open_calls())))

    async def give_up(self, name: str) -> None:
        """SIGTERM, and SIGKILL when it takes long: it stays down until it is started."""
        self._expected_down.add(name)
        await asyncio.to_thread(self.stack.processes[name].stop, _GIVE_UP_SECONDS)

    async def stop(self, name: str) -> None:
        """SIGTERM; it has to end by itself, in order."""
        self._expected_down.add(name)
        code = await asyncio.to_thread(self.stack.processes[name].stop)
        if code != 0:
            self._problems.append(f"{name} ended with {code} on SIGTERM {self.stack.processes[name].stacks()}")

    async def rest(self, least: float, most: float) -> None:
        """Let it work for a random while."""
        await asyncio.sleep(self.random.uniform(least, most))

    def was_restarted(self, name: str) -> bool:
        """Whether the supervisor had to start it again."""
        return any(each.startswith(f"{name} ended") for each in self._restarts)

    def claim(self, holds: bool, what: str) -> None:
        """Note a problem unless it holds."""
        if not holds:
            self._problems.append(what)

    async def _supervise(self) -> None:
        while True:
            await asyncio.sleep(0.2)
            for name, process in list(self.stack.processes.items()):
                code = process.process.poll()
                if code is None or name in self._expected_down:
                    continue
                self._restarts.append(f"{name} ended with {code}")
                if code == _EX_CONFIG:
                    self._problems.append(f"{name} refused its configuration:\n{last_lines(process.log, 10)}")
                    self._expected_down.add(name)
                    continue
                await asyncio.sleep(_RESTART_PAUSE_SECONDS)
                self.start(name, self._kinds[name])
