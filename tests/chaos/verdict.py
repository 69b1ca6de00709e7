"""What the outside world shows after a row, against what was sent: the columns of the table.

From: topics and tables, read as any subscriber would. To: a `Verdict`; nothing in it asks the product what it did.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from aiokafka import AIOKafkaConsumer, TopicPartition

from nexus_stream.contracts.conversation import Conversation, digest
from nexus_stream.kafka.clients import client_options
from tests.chaos.claude_stand_in import Call
from tests.chaos.ledger import SentLedger, SentSession
from tests.stack import Stack, eventually

__all__ = ["Outage", "Verdict", "is_complete", "judge", "lag", "passed_by", "wrong_sessions"]


@dataclass(frozen=True, slots=True)
class Outage:
    """A moment at which calls may be lost: a process was killed or told to stop.

    Attributes:
        at: When.
        until: When all that was asked before it had reached the stand-in.
        what: Which processes.
        open_at_stand_in: How many calls were open.
    """

    at: float
    until: float
    what: str
    open_at_stand_in: int


@dataclass
class Verdict:
    """The columns. ``problems`` is empty when every promise was kept."""

    sent: int = 0
    sessions: int = 0
    rows_right: int = 0
    lost: int = 0
    doubled_effects: int = 0
    reemitted: int = 0
    calls: int = 0
    repeated_calls: int = 0
    repeated_calls_allowed: int = 0
    paid_after_changelog: int = 0
    dead_letters_expected: int = 0
    dead_letters_found: int = 0
    problems: list[str] = field(default_factory=list)
    # What happened to the snapshots of the problems, in order of time.
    timelines: list[str] = field(default_factory=list)


async def wrong_sessions(stack: Stack, ledger: SentLedger) -> dict[str, str]:
    """Sessions whose row is not that of their newest accepted snapshot, with what is there instead."""
    rows = {row["session_id"]: row for row in await stack.fetch("SELECT session_id, record FROM prospect_sessions")}
    people = {
        row["fingerprint_id"]: row["prospect_data"]
        for row in await stack.fetch("SELECT fingerprint_id, prospect_data FROM prospect_tracking")
    }
    newest_of: dict[str, list[SentSession]] = defaultdict(list)
    for session in ledger.sessions.values():
        newest_of[session.fingerprint].append(session)
    wrong: dict[str, str] = {}
    for session_id, session in ledger.sessions.items():
        row = rows.get(session_id)
        if row is None:
            wrong[session_id] = "no row"
            continue
        record = row["record"]
        email = record["prospect"]["email"]
        if record["conversation"]["digest"] != session.digest(session.accepted):
            wrong[session_id] = f"row of {email}, not of version {session.accepted}"
        elif (record["prospect"]["nombre"], email) != (session.name, session.email(session.accepted)):
            wrong[session_id] = f"its newest snapshot, but the data of {email}"
        elif session.accepted > 1 or not session.late_fingerprint:
            person = people.get(session.fingerprint)
            markers = {each.email(each.accepted) for each in newest_of[session.fingerprint]}
            if person is None or person.get("email") not in markers:
                wrong[session_id] = f"person {session.fingerprint}: {person and person.get('email')}"
    return wrong


async def lag(stack: Stack) -> dict[str, int]:
    """Records not committed yet, by group."""
    settings = stack.settings
    behind: dict[str, int] = {}
    for group, topic in (
        (settings.enricher_app_id, settings.ingestion_topic),
        (settings.sink_app_id, settings.enriched_topic),
    ):
        consumer = AIOKafkaConsumer(**client_options(settings), group_id=group, enable_auto_commit=False)
        try:
            await consumer.start()
            partitions = [TopicPartition(topic, number) for number in range(settings.topic_partitions)]
            ends = await consumer.end_offsets(partitions)
            behind[group] = sum([max(0, ends[tp] - (await consumer.committed(tp) or 0)) for tp in partitions])
        finally:
            await consumer.stop()
    return behind


async def passed_by(stack: Stack, group: str, topic: str, *, seconds: float) -> None:
    """Wait until the group has committed, on every partition, all that is there now.

    Raises:
        AssertionError: it has not within the time.
    """
    consumer = AIOKafkaConsumer(**client_options(stack.settings), group_id=group, enable_auto_commit=False)
    try:
        await consumer.start()
        ends = await consumer.end_offsets([TopicPartition(topic, n) for n in range(stack.settings.topic_partitions)])
    finally:
        await consumer.stop()

    async def passed() -> bool:
        committed = await stack.committed(group, topic)
        return all(committed[tp.partition] >= end for tp, end in ends.items())

    await eventually(passed, seconds=seconds, what=f"{group} committed past {topic} as it was")


async def is_complete(stack: Stack, ledger: SentLedger, *, but_not: Iterable[str] = ()) -> bool:
    """Whether every row is right and both groups have committed all there is."""
    wrong = set(await wrong_sessions(stack, ledger)) - set(but_not)
    return not wrong and not any((await lag(stack)).values())


async def judge(
    stack: Stack, ledger: SentLedger, calls: list[Call], outages: list[Outage], *, without_promise: Iterable[str] = ()
) -> Verdict:
    """Compare.

    Args:
        stack: Where to look.
        ledger: What was sent.
        calls: The stand-in's books.
        outages: When calls in flight may have been lost.
        without_promise: Sessions that a memory-only broker took with it.
    """
    verdict = Verdict(sent=ledger.snapshots, sessions=len(ledger.sessions), calls=len(calls))
    wrong = await wrong_sessions(stack, ledger)
    lost = {session_id: why for session_id, why in wrong.items() if session_id not in set(without_promise)}
    verdict.rows_right = len(ledger.sessions) - len(wrong)
    verdict.lost = len(lost)
    verdict.problems += [f"lost {session_id}: {why}" for session_id, why in sorted(lost.items())[:5]]
    behind = {group: count for group, count in (await lag(stack)).items() if count}
    if behind:
        verdict.problems.append(f"not committed to the end: {behind}")
    await _judge_people(stack, ledger, verdict, without_promise)
    suspects = await _judge_effects(stack, verdict)
    suspects |= await _judge_calls(stack, calls, outages, verdict)
    suspects |= {
        ledger.sessions[session_id].digest(ledger.sessions[session_id].accepted) for session_id in sorted(lost)[:2]
    }
    for suspect in sorted(suspects)[:3]:
        verdict.timelines += await _timeline(stack, calls, suspect)
    await _judge_letters(stack, ledger, verdict)
    return verdict


async def _judge_people(stack: Stack, ledger: SentLedger, verdict: Verdict, without_promise: Iterable[str]) -> None:
    """One row a person, and no row of anybody else."""
    rows = [row["fingerprint_id"] for row in await stack.fetch("SELECT fingerprint_id FROM prospect_tracking")]
    # Who was lost with the broker may have told a fingerprint in what was lost.
    known = ledger.people | {f"session:{session_id}" for session_id in without_promise}
    extra = [person for person in rows if person not in known]
    second = len(rows) - len(set(rows))
    verdict.doubled_effects += len(extra) + second
    if extra or second:
        verdict.problems.append(f"{second} second rows of a person, rows of nobody: {extra[:5]}")
    unread = sorted(ledger.refused - set(rows))
    if unread:
        verdict.problems.append(f"{len(unread)} refused chats without a row of the rules' reading: {unread[:5]}")


async def _judge_effects(stack: Stack, verdict: Verdict) -> set[str]:
    """One id for one (session, digest, fingerprint), and one body for one id; returns the digests that broke it."""
    ids: dict[tuple[str, str, str | None], set[bytes]] = defaultdict(set)
    bodies: dict[bytes, set[str]] = defaultdict(set)
    digest_of: dict[bytes, str] = {}
    records = await stack.read_topic(stack.settings.enriched_topic)
    for record in records:
        value = json.loads(record.value)
        ce_id = dict(record.headers)["ce_id"]
        ids[value["session_id"], value["conversation"]["digest"], value["fingerprint"]].add(ce_id)
        digest_of[ce_id] = value["conversation"]["digest"]
        bodies[ce_id].add(hashlib.sha256(record.value).hexdigest())
    twice = {key: len(found) - 1 for key, found in ids.items() if len(found) > 1}
    changed = {ce_id: len(found) - 1 for ce_id, found in bodies.items() if len(found) > 1}
    verdict.doubled_effects += sum(twice.values()) + sum(changed.values())
    verdict.reemitted = len(records) - sum(len(found) for found in bodies.values())
    if twice:
        verdict.problems.append(f"{len(twice)} snapshots emitted under two ids: {list(twice)[:3]}")
    if changed:
        verdict.problems.append(f"{len(changed)} ids emitted with two bodies: {list(changed)[:3]}")
    return {known for _, known, _ in twice} | {digest_of[ce_id] for ce_id in changed}


async def _judge_calls(stack: Stack, calls: list[Call], outages: list[Outage], verdict: Verdict) -> set[str]:
    """Nothing is paid again once the changelog has it; else only what was in flight at an outage.

    In flight is what was asked and not yet in the changelog then: open at the stand-in, or its answer on the way.
    """
    recorded: dict[str, float] = {}
    for record in await stack.read_topic(stack.settings.sessions_changelog_topic):
        if record.value is not None and (known := json.loads(record.value).get("digest")):
            recorded.setdefault(known, record.timestamp / 1000)
    by_digest: dict[str, list[Call]] = defaultdict(list)
    for call in calls:
        by_digest[call.digest].append(call)
    allowed: set[int] = set()
    for outage in outages:
        allowed |= {
            id(call)
            for call in calls
            if call.started_at <= outage.until and recorded.get(call.digest, outage.at) >= outage.at
        }
    verdict.repeated_calls_allowed = len(allowed)
    for known, asked in by_digest.items():
        verdict.repeated_calls += len(asked) - 1
        verdict.paid_after_changelog += sum(
            1 for call in asked[1:] if recorded.get(known, call.started_at) < call.started_at
        )
    if verdict.paid_after_changelog:
        verdict.problems.append(f"{verdict.paid_after_changelog} calls for results the changelog had already")
    if verdict.repeated_calls > verdict.repeated_calls_allowed:
        verdict.problems.append(
            f"{verdict.repeated_calls} repeated calls, {verdict.repeated_calls_allowed} were in flight at an outage"
        )
    in_flight = {call.digest for call in calls if id(call) in allowed}
    return {known for known, asked in by_digest.items() if len(asked) > 1 and known not in in_flight}


async def _timeline(stack: Stack, calls: list[Call], known: str) -> list[str]:
    """Everything the outside saw of one snapshot."""
    events: list[tuple[float, str]] = []
    for call in calls:
        if call.digest == known:
            events += [(call.started_at, "call"), (call.ended_at or time.time(), "answered")]
    settings = stack.settings
    for name, topic in (
        ("ingested", settings.ingestion_topic),
        ("changelog", settings.sessions_changelog_topic),
        ("emitted", settings.enriched_topic),
    ):
        for record in await stack.read_topic(topic):
            value = record.value or b""
            found = known.encode() in value
            if name == "ingested":
                try:
                    found = digest(Conversation.model_validate_json(value)) == known
                except ValueError:
                    continue
            if found:
                events.append((record.timestamp / 1000, f"{name} at {record.partition}-{record.offset}"))
    lines = [
        f"{datetime.fromtimestamp(at, UTC).isoformat(timespec='milliseconds')} {what}" for at, what in sorted(events)
    ]
    return [f"snapshot {known}:", *(f"  {line}" for line in lines)]


async def _judge_letters(stack: Stack, ledger: SentLedger, verdict: Verdict) -> None:
    """Every poisoned record, byte for byte, and nothing else."""
    letters = await stack.read_topic(stack.settings.dead_letter_topic)
    found = {letter.key: letter.value for letter in letters}
    verdict.dead_letters_expected, verdict.dead_letters_found = len(ledger.poison), len(found)
    missing = [key for key, poison in ledger.poison.items() if found.get(key) != poison.value]
    unexpected = [
        f"{letter.key!r} {dict(letter.headers)['nexus-reason']!r} {dict(letter.headers)['nexus-error']!r}"
        for letter in letters
        if letter.key not in ledger.poison
    ]
    if missing:
        verdict.problems.append(f"{len(missing)} poisoned records without a dead letter: {missing[:3]}")
    if unexpected:
        verdict.problems.append(f"{len(unexpected)} dead letters of good records: {unexpected[:3]}")
