"""The rows: what is done to the product, in the order of the table."""

from __future__ import annotations

import asyncio
import signal
import time

from nexus_stream.kafka.topics import apply_topics
from tests.chaos.load import TopicSender
from tests.chaos.row import Row, Scenario
from tests.chaos.verdict import passed_by, wrong_sessions
from tests.stack import eventually

__all__ = ["SCENARIOS", "by_name"]

_ALL = {"gateway": "gateway", "enricher": "enricher", "sink": "sink"}
# Longer than a worker needs to read on after it is ready, so that some kills fall into real work.
_KILL_AFTER_SECONDS = (0.0, 2.5)


async def _kill_repeatedly(row: Row, *names: str) -> None:
    for _ in range(row.profile.kills):
        await row.rest(*_KILL_AFTER_SECONDS)
        await row.kill(*names)
        await row.until_ready(*names)


async def kill_enricher(row: Row) -> None:
    """``kill -9`` at random moments."""
    await _kill_repeatedly(row, "enricher")


async def kill_sink(row: Row) -> None:
    """``kill -9`` at random moments."""
    await _kill_repeatedly(row, "sink")


async def kill_both(row: Row) -> None:
    """``kill -9`` of both at the same moment."""
    await _kill_repeatedly(row, "enricher", "sink")


async def rolling_restart(row: Row) -> None:
    """SIGTERM each in turn, as a deployment does, and wait until it is ready again."""
    for _ in range(max(1, row.profile.kills // 4)):
        for name in _ALL:
            await row.rest(0.5, 1.5)
            await row.stop(name)
            row.start(name, name)
            await row.until_ready(name)


async def scale(row: Row) -> None:
    """Three more enrichers join, work, and leave one after the other."""
    more = [f"enricher-{number}" for number in (2, 3, 4)]
    await row.rest(0.5, 1.0)
    for name in more:
        row.start(name, "enricher")
    await row.until_ready(*more, "enricher")
    await row.rest(2.0, 3.0)
    for name in more:
        await row.stop(name)
    await row.until_ready("enricher")


async def stop_while_another_joins(row: Row) -> None:
    """SIGTERM one of two enrichers with long calls open, and start a third at the same moment.

    So the group rebalances while the first finishes what runs, and gives its partitions away before it is done. The
    calls are answered once that has happened.
    """
    staying = ["enricher", "enricher-2"]
    for number in range(max(2, row.profile.kills // 2)):
        await row.rest(0.5, 1.5)
        row.stand_in.set_mode("late")
        await row.rest(1.0, 1.5)
        leaving, joining = staying.pop(0), f"enricher-{number + 3}"
        staying.append(joining)
        stopping = asyncio.create_task(row.stop(leaving))
        row.start(joining, "enricher")
        await row.until_ready(*staying)
        # Calls that are open for longer than a rebalance waits are somebody else's to make again.
        await row.note_outage(time.time(), f"{leaving} told to stop, {joining} started")
        row.stand_in.set_mode("answer")
        await stopping
        await row.until_ready(*staying)


async def kill_kafka_node(row: Row) -> None:
    """A node dies and comes back: one, or in the full run each in turn."""
    nodes = (2,) if row.profile.kills < 3 else (1, 2, 3)
    for node_id in nodes:
        await row.rest(1.0, 2.0)
        await row.environment.kill_node_for(node_id, row.profile.outage_seconds)


async def lose_embedded_broker(row: Row) -> None:
    """The memory-only broker dies with all it held, and an empty one takes its place, with topics.

    The enricher ends with it and is started after it, as `nexus dev` does; the sink stays and has to notice. Nothing
    may be sent to the new broker before it has its topics: it takes such records, and loses them when the topics are
    created (docs/reference/topics.md, "The embedded broker").
    """
    await row.rest(3.0, 4.0)
    wrong = set(await wrong_sessions(row.stack, row.ledger))
    right = {(name, session.accepted) for name, session in row.ledger.sessions.items() if name not in wrong}

    async def sink_noticed() -> bool:
        return row.was_restarted("sink")

    assert isinstance(row.sender, TopicSender)
    await row.sender.hold()
    gone_at = time.time()
    row.environment.kill_embedded_broker()
    await row.give_up("enricher")
    await row.rest(0.0, row.profile.outage_seconds / 2)
    await row.environment.start_embedded_broker_again()
    await apply_topics(row.stack.settings)
    await row.note_outage(gone_at, "broker")
    row.start("enricher", "enricher")
    row.sender.release()
    await eventually(sink_noticed, seconds=60, what="the sink to end because another cluster answers")
    await row.until_ready("enricher", "sink")
    await row.rest(4.0, 5.0)
    # What was right before stays; what was accepted after is promised as ever; between the two, nothing is.
    row.without_promise = {
        name
        for name, session in row.ledger.sessions.items()
        if session.accepted_at <= gone_at and (name, session.accepted) not in right
    }
    row.notes.append(f"{len(row.without_promise)} sessions' newest snapshots were in the broker when it died")


async def stop_database(row: Row) -> None:
    """PostgreSQL stops and starts again."""
    await row.rest(1.0, 2.0)
    await row.environment.stop_database_for(row.profile.database_outage_seconds)


async def claude_trouble(row: Row) -> None:
    """Overloaded, limited, silent, cut off, then failing every second request; each for a while."""
    for mode in ("overloaded", "limited", "hang", "cut", "flaky"):
        await row.rest(0.5, 1.0)
        row.stand_in.set_mode(mode)
        await asyncio.sleep(row.profile.outage_seconds)
        row.stand_in.set_mode("answer")
        row.claim(row.stand_in.refusals_sent.get(mode, 0) > 0 or mode == "flaky", f"no request met the mode {mode}")
    row.notes.append(f"requests without an answer: {row.stand_in.refusals_sent}")


async def poison(row: Row) -> None:
    """Poisoned records among the others, and one kill, so that some letters are written twice."""
    await row.rest(1.5, 2.5)
    await row.kill("enricher")
    await row.until_ready("enricher")


async def pause_beyond_poll_interval(row: Row) -> None:
    """Claude is silent until the bound and Faust's buffers are full, for longer than the broker waits for a poll."""
    await row.rest(1.0, 1.5)
    row.stand_in.set_mode("hang")
    await asyncio.sleep(_POLL_INTERVAL_SECONDS * 3)
    row.stand_in.set_mode("answer")
    await row.until_ready("enricher")


async def _freeze(row: Row, name: str, group: str, topic: str) -> None:
    """SIGSTOP one of two until the other has taken over and finished its partitions, then let it go on.

    To its group it is dead, and to itself no time has passed: its timers are due at once, its requests are answered.
    """
    for _ in range(max(1, row.profile.kills // 4)):
        await row.rest(1.0, 2.0)
        process = row.stack.processes[name].process
        process.send_signal(signal.SIGSTOP)
        try:
            await row.note_outage(time.time(), f"{name} frozen")
            # What is there half a second later was read by nobody but the other, if it is of the frozen one's.
            await asyncio.sleep(0.5)
            await passed_by(row.stack, group, topic, seconds=_TAKEN_OVER_SECONDS)
            # New work of its sessions, so that what it still holds is old.
            await row.rest(1.0, 2.0)
        finally:
            process.send_signal(signal.SIGCONT)
        await row.until_ready(f"{name}-2", name)


async def freeze_enricher(row: Row) -> None:
    """SIGSTOP for longer than the session timeout, of one of two."""
    await _freeze(row, "enricher", row.stack.settings.enricher_app_id, row.stack.settings.ingestion_topic)


async def freeze_sink(row: Row) -> None:
    """The same of one of two sinks."""
    await _freeze(row, "sink", row.stack.settings.sink_app_id, row.stack.settings.enriched_topic)


_POLL_INTERVAL_SECONDS = 4
_TAKEN_OVER_SECONDS = 90

SCENARIOS = (
    Scenario("kill-enricher", "SIGKILL of the enricher at random moments", kill_enricher),
    Scenario("kill-sink", "SIGKILL of the sink at random moments", kill_sink),
    Scenario("kill-both", "SIGKILL of enricher and sink at once", kill_both),
    Scenario(
        "rolling-restart",
        "SIGTERM rolling restart of gateway, enricher, sink",
        rolling_restart,
        processes=_ALL,
        through_gateway=True,
    ),
    Scenario("scale", "enrichers 1, then 4, then 1", scale),
    Scenario(
        "stop-and-join",
        "SIGTERM of one of two enrichers with calls open, while a third joins",
        stop_while_another_joins,
        variables={"NEXUS_CLAUDE_TIMEOUT_SECONDS": "90"},
        processes={"enricher": "enricher", "enricher-2": "enricher", "sink": "sink"},
    ),
    Scenario("kafka-node", "a Kafka node killed and back", kill_kafka_node, brokers=("kafka",)),
    Scenario(
        "embedded-broker", "the embedded broker gone, an empty one back", lose_embedded_broker, brokers=("embedded",)
    ),
    Scenario("database", "PostgreSQL stopped, then started", stop_database),
    Scenario(
        "claude",
        "Claude: 529, 429, hanging, cut off, every second failing",
        claude_trouble,
        variables={"NEXUS_CLAUDE_TIMEOUT_SECONDS": "3"},
    ),
    Scenario("poison", "a poisoned record in each 100 (short: 20), and a kill", poison, poisoned=True),
    Scenario(
        "poll-interval",
        "a pause longer than the poll interval",
        pause_beyond_poll_interval,
        variables={
            "NEXUS_KAFKA_MAX_POLL_INTERVAL_SECONDS": str(_POLL_INTERVAL_SECONDS),
            "NEXUS_PENDING_MAX_SESSIONS": "50",
            "NEXUS_SETTLE_SECONDS": "0",
        },
        # In the pause more come than Faust's buffer of 1,000 records holds.
        load={"snapshots": 1500, "snapshots_a_second": 130.0, "open_sessions": 300, "snapshots_a_session": 6},
        latency_seconds=(0.01, 0.05),
    ),
    Scenario(
        "frozen-enricher",
        "one of two enrichers frozen past its session timeout, then woken",
        freeze_enricher,
        processes={"enricher": "enricher", "enricher-2": "enricher", "sink": "sink"},
    ),
    Scenario(
        "frozen-sink",
        "one of two sinks frozen past its session timeout, then woken",
        freeze_sink,
        processes={"enricher": "enricher", "sink": "sink", "sink-2": "sink"},
    ),
)


def by_name(name: str) -> Scenario:
    """A scenario by its name."""
    for scenario in SCENARIOS:
        if scenario.name == name:
            return scenario
    raise KeyError(f"no row {name!r}; there are {', '.join(scenario.name for scenario in SCENARIOS)}")
