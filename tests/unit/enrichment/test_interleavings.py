"""The enricher's stage under whatever happens in whatever order: one machine over the real stage, on parts in memory.

Records arrive, calls end or stay open, the broker refuses a topic, partitions go and come, the process dies; after each
step, what lies below a committed offset must have had its effect. A plain reading of the log says what that is.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import orjson
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from nexus_stream.contracts.conversation import Limits, decode, digest
from nexus_stream.contracts.headers import (
    AGAIN_HEADER,
    AGAIN_OF_HEADER,
    ANSWER_HEADER,
    ORIGIN_TIMESTAMP_HEADER,
    REDRIVE_HEADER,
    Headers,
)
from nexus_stream.contracts.said import said_steps
from nexus_stream.contracts.session_command import CommandKind, SessionCommand
from nexus_stream.delivery.ordering import MAX_CLOCK_BEHIND_MS
from nexus_stream.delivery.outcomes import Outcome
from nexus_stream.delivery.received import Assignment, Received
from nexus_stream.delivery.stage import StageParts
from nexus_stream.enrichment.stage import Enrichment
from nexus_stream.errors import ModelRefusedError, ModelUnavailableError, Reason
from nexus_stream.extraction.answered import encode_answer
from nexus_stream.extraction.extractor import Findings, MadeBy, Turn, Usage
from nexus_stream.settings import load_settings
from nexus_stream.testing.broker import InMemoryBroker, StoredRecord
from nexus_stream.testing.clock import FakeClock
from nexus_stream.testing.extractor import ScriptedExtractor
from nexus_stream.testing.sessions import InMemorySessionTable
from tests.unit.enrichment.log_reading import (
    CHANGELOG,
    DEAD,
    ENRICHED,
    INGESTION,
    PARTITIONS,
    LogReader,
    Place,
    Said,
    home,
    read,
)

# Two share a partition, so that one may hold back what the other has finished.
SESSIONS = ("ana", "luz", "s-1")
DRAIN_SECONDS = 30.0
MAX_FINGERPRINTS = 8
# Of a step: the hash of the user's turn.
_USER_CHARS = 12
# How a site tells the same words: alone, with an answer that grows, with another greeting, with other white space, and
# with its newest two turns only.
FORMS = st.sampled_from(["plain", "plain", "answered", "greeted", "spaced"])
# What follows on a step: seconds (after 11 quiet ones a session settles, every 20 offsets are committed), and whether
# the open calls end. Hypothesis leaves out some rules in each run; without these nothing would come of the others.
THEN = st.sampled_from([(0, False), (0, False), (11, False), (25, False), (0, True), (11, True)])


class StandingLoop(asyncio.SelectorEventLoop):
    """A loop whose time is moved by hand: a bound on draining is reached when a test says so."""

    now = 0.0

    def time(self) -> float:
        return self.now


RULES = MadeBy("offline-rules-v1")


class SteeredExtractor(ScriptedExtractor):
    """A call stays open until it is answered or failed. The rules read what cannot be read, if they can read."""

    def __init__(self, asked: Callable[[Sequence[Turn]], None]) -> None:
        super().__init__()
        self.open: list[asyncio.Future[None]] = []
        self.answers_at_once = False
        self.has_rules = False
        self._asked = asked

    async def read_instead(self, turns: Sequence[Turn], reason: Reason | None, region: str | None = None) -> Findings:
        if not self.has_rules:
            raise RuntimeError("a bug in the rules")
        return replace(await ScriptedExtractor().extract(turns), made_by=RULES, instead_of=reason, usage=Usage())

    async def extract(self, turns: Sequence[Turn], region: str | None = None) -> Findings:
        self._asked(turns)
        if not self.answers_at_once:
            answer = asyncio.get_running_loop().create_future()
            self.open.append(answer)
            try:
                await answer
            finally:
                self.open.remove(answer)
        return await super().extract(turns)


class Nobody:
    """An `Observer`."""

    def outcome(self, record: Received, outcome: Outcome) -> None:
        pass

    def waiting(self, what: str, since_ms: int | None) -> None:
        pass


class Interleavings(RuleBasedStateMachine, LogReader):
    """One worker, its broker and its model."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = StandingLoop()
        self.broker = InMemoryBroker(PARTITIONS)
        self.clock = FakeClock()
        self.extractor = SteeredExtractor(self._asked)
        self.settings = load_settings(
            environ={},
            topic_partitions=PARTITIONS,
            settle_seconds=10,
            max_wait_seconds=30,
            commit_interval_seconds=20,
            pending_max_sessions=4,
            batch_max_wait_seconds=0.05,
        )
        self.fatal: list[BaseException] = []
        self.said: dict[bytes | None, Said] = {}
        self.snapshots: dict[str, list[bytes]] = defaultdict(list)
        self.by_words: dict[str, Said] = {}
        self.asked: set[str] = set()
        # Sessions of which a dead letter was sent back: its words are asked again.
        self.redriven: set[str] = set()
        # Sessions of which an answer came with its conversation.
        self.answered: set[str] = set()
        self.by_digest: dict[str, Said] = {}
        self.count = 0
        self.tellings = 0
        # The furthest that was ever read, by partition: what is read again after a crash was read before.
        self.furthest = dict.fromkeys(range(PARTITIONS), 0)
        self.checked = dict.fromkeys(range(PARTITIONS), 0)
        self.paid_again: list[Said] = []
        self.revocation: asyncio.Task[None] | None = None
        self.run(self._start())

    # The worker

    def run(self, *steps: object) -> None:
        async def run() -> None:
            for step in steps:
                await step  # type: ignore[misc]
            # A little later, and everything that can act has acted.
            self.arrived.set()
            await self.clock.advance(0.01)

        self.loop.run_until_complete(run())

    async def _start(self) -> None:
        self.arrived = asyncio.Event()
        self.flowing: dict[int, int] = {}
        self.revocation = None
        assignment = Assignment()
        self.table = InMemorySessionTable(self.broker, assignment, CHANGELOG)
        self.stage = Enrichment(
            StageParts(
                broker=self.broker,
                assignment=assignment,
                clock=self.clock,
                observer=Nobody(),
                on_fatal=self.fatal.append,
            ),
            settings=self.settings,
            table=self.table,
            extractor=self.extractor,
            source="/test",
        )
        self.stage.start()
        self.reader = asyncio.create_task(self._read())
        await self._assign(range(PARTITIONS))

    async def _assign(self, partitions: Iterable[int]) -> None:
        self.table.values.clear()
        for record in self.broker.records(CHANGELOG):
            assert record.key is not None
            if record.value is None:
                self.table.values.pop(record.key, None)
            else:
                self.table.values[record.key] = record.value
        self.revocation = None
        self.calm_steps = 0
        await self.stage.assigned([(INGESTION, partition) for partition in partitions])
        self.flowing = {partition: self.committed(partition) for partition in partitions}

    async def _read(self) -> None:
        """What the agent's loop does."""
        while True:
            for partition, offset in self.flowing.items():
                log = self.log(partition)
                if offset < len(log):
                    await self._submit(log[offset])
                    break
            else:
                self.arrived.clear()
                await self.arrived.wait()

    async def _submit(self, stored: StoredRecord) -> None:
        self.flowing[stored.partition] = stored.offset + 1
        self.furthest[stored.partition] = max(self.furthest[stored.partition], stored.offset + 1)
        assert stored.timestamp_ms is not None
        record = self.stage.read(
            INGESTION, stored.partition, stored.offset, stored.timestamp_ms, stored.key, stored.value, stored.headers
        )
        if record is not None:
            await self.stage.submit(record)

    async def _revoke(self) -> None:
        self.flowing = {}
        self.revocation = asyncio.create_task(self.stage.revoked(drain_seconds=DRAIN_SECONDS))
        await self.clock.settle()

    async def _reach_bound(self) -> None:
        assert self.revocation is not None
        self.loop.now += DRAIN_SECONDS
        await self.revocation

    async def _die(self) -> None:
        tasks = [*self.stage._tasks, self.reader, *([self.revocation] if self.revocation else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _stop(self) -> None:
        self.flowing = {}
        stopping = asyncio.create_task(self.stage.stop(drain_seconds=DRAIN_SECONDS))
        await self.clock.settle()
        self.loop.now += DRAIN_SECONDS
        await stopping
        await self._die()

    @property
    def is_revoked(self) -> bool:
        return self.revocation is not None and self.revocation.done()

    # Its log

    async def _produce(self, said: Said, value: bytes, *, headers: Headers = (), away: bool = False) -> None:
        self.said[value] = said
        partition = (home(said.session) + away) % PARTITIONS
        # Producers reach the broker even where the stage does not.
        refused, self.broker.failing = self.broker.failing, set()
        key, time_ms = said.session.encode(), self.clock.time_ms()
        await (
            await self.broker.send(INGESTION, key, value, partition=partition, timestamp_ms=time_ms, headers=headers)
        )
        self.broker.failing = refused

    async def _say(
        self, session: str, place: Place, at_ms: int, fingerprint: str | None, *, away: bool, form: str = "plain"
    ) -> None:
        generation, turns = place
        texts = [f"{session} {generation}" + (": me llamo Ana Ruiz" if generation == 0 else "")]
        texts += [f"{session} {generation} turno {turn}" for turn in range(1, turns)]
        words = texts[-1]
        self.tellings += 1
        messages = [{"role": "user", "content": text} for text in texts]
        match form:
            case "answered":
                messages.append({"role": "assistant", "content": "claro" * self.tellings})
            case "greeted":
                messages.insert(0, {"role": "assistant", "content": f"Hola, son las {self.tellings}"})
            case "spaced":
                messages[-1] = {"role": "user", "content": " " * self.tellings + words.replace(" ", "\n")}
            case "cut":
                messages = messages[-2:]
        body = {
            "messages": messages,
            "sessionId": session,
            "fingerprint": fingerprint,
            "metadata": {"enqueuedAt": datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="milliseconds")},
        }
        value = orjson.dumps(body)
        # Nobody's clock may be so far behind the broker's, and none is asked for a rerouted record: see ordering.py.
        now_ms = self.clock.time_ms()
        at_ms = now_ms if away else max(at_ms, now_ms - MAX_CLOCK_BEHIND_MS)
        said = Said("snapshot", session, at_ms, place, fingerprint, digest(decode(value, Limits())))
        self.by_words[words] = self.by_digest[said.digest] = said
        self.snapshots[session].append(value)
        await self._produce(said, value, away=away)

    async def _command(self, kind: CommandKind, session: str) -> None:
        self.count += 1
        now_ms = self.clock.time_ms()
        command = SessionCommand(
            command=kind,
            session_id=session,
            request_id=f"request-{self.count}",
            requested_at=datetime.fromtimestamp(now_ms / 1000, UTC),
            idle_since_ms=now_ms - 1 if kind is CommandKind.EXPIRE else None,
        )
        said = Said(kind.value, session, now_ms, request_id=command.request_id)
        await self._produce(said, command.value, headers=command.headers)

    # What arrives

    @initialize(sessions=st.lists(st.sampled_from(SESSIONS), min_size=1, max_size=3), has_rules=st.booleans())
    def sessions_began(self, sessions: list[str], has_rules: bool) -> None:
        self.extractor.has_rules = self.has_rules = has_rules
        for session in sessions:
            self.goes_on(session, 1, False, None, False, "plain", False, (0, False))

    @rule(
        session=st.sampled_from(SESSIONS),
        more=st.integers(1, 2),
        begins_anew=st.sampled_from([False, False, False, True]),
        fingerprint=st.sampled_from([None, "fp-a", "fp-b"]),
        away=st.sampled_from([False, False, False, True]),
        form=FORMS,
        is_cut=st.booleans(),
        then=THEN,
    )
    def goes_on(
        self,
        session: str,
        more: int,
        begins_anew: bool,
        fingerprint: str | None,
        away: bool,
        form: str,
        is_cut: bool,
        then: tuple[int, bool],
    ) -> None:
        newest = self.newest(session)
        generation, turns = newest.place if newest is not None else (0, 0)
        place = (generation + 1, more) if begins_anew else (generation, turns + more)
        if is_cut and more == 1 and turns and not begins_anew:
            form = "cut"
        self.run(self._say(session, place, self.clock.time_ms(), fingerprint, away=away, form=form))
        self._then(*then)

    @rule(
        session=st.sampled_from(SESSIONS),
        back=st.integers(0, 3),
        fingerprint=st.sampled_from([None, "fp-a", "fp-b", "fp-c"]),
        away=st.sampled_from([False, False, False, True]),
        form=FORMS,
        then=THEN,
    )
    def says_it_again(
        self, session: str, back: int, fingerprint: str | None, away: bool, form: str, then: tuple[int, bool]
    ) -> None:
        known = sorted({(said.place, said.at_ms) for said in map(self.said.__getitem__, self.snapshots[session])})
        place, at_ms = known[max(0, len(known) - 1 - back)] if known else ((0, 1), self.clock.time_ms())
        self.run(self._say(session, place, at_ms, fingerprint, away=away, form=form))
        self._then(*then)

    @precondition(lambda self: self.count < 1000 and self.stage.pending_sessions)
    @rule()
    def is_repeated_with_ever_new_fingerprints(self) -> None:
        self.count += 1000
        session = next(self.stage._settling.works()).key.decode()
        newest = self.newest(session)
        assert newest is not None
        say = [self._say(session, newest.place, newest.at_ms, f"fp-{n}", away=False) for n in range(70)]
        self.run(*say)

    @precondition(lambda self: self.has_rules and self.broker.records(DEAD))
    @rule(which=st.integers(0, 3), then=THEN)
    def a_letter_is_redriven(self, which: int, then: tuple[int, bool]) -> None:
        letters = self.broker.records(DEAD)
        letter = letters[-1 - which % len(letters)]
        said, headers = self.said[letter.value], dict(letter.headers)
        if said.kind == "snapshot":
            self.redriven.add(said.session)
            origin = (ORIGIN_TIMESTAMP_HEADER, headers[ORIGIN_TIMESTAMP_HEADER])
            assert letter.value is not None
            self.run(self._produce(said, letter.value, headers=((REDRIVE_HEADER, b"1"), origin)))
        self._then(*then)

    @rule(session=st.sampled_from(SESSIONS), model=st.sampled_from(["m-1", "m-2"]), then=THEN)
    def is_read_again(self, session: str, model: str, then: tuple[int, bool]) -> None:
        """An answer of ``nexus backfill --again``: with its conversation, as a record that came back."""
        digest_of_state = self.states(session)[-1].get("digest", "")
        made = self.states(session)[-1].get("extraction", {"extractor": "none"})
        for value in [one for one in self.snapshots[session] if self.said[one].digest == digest_of_state][:1]:
            conversation = decode(value, Limits())
            turns = [Turn(message.role, message.content) for message in conversation.messages]
            made_by = MadeBy("claude", model, "prompt-v1")
            findings = self.loop.run_until_complete(ScriptedExtractor().extract(turns))
            answer = encode_answer(digest(conversation), replace(findings, made_by=made_by))
            self.answered.add(session)
            self.asked.update(" ".join(turn.content.split()) for turn in turns if turn.role == "user")
            said, stamp = self.said[value], str(self.said[value].at_ms).encode()
            headers = (
                (ORIGIN_TIMESTAMP_HEADER, stamp),
                (ANSWER_HEADER, answer),
                (AGAIN_HEADER, made_by.label.encode()),
                (
                    AGAIN_OF_HEADER,
                    MadeBy(made["extractor"], made.get("model"), made.get("prompt_version")).label.encode(),
                ),
            )
            self.run(self._produce(said, value, headers=headers))
        self._then(*then)

    @rule(session=st.sampled_from(SESSIONS), kind=st.sampled_from([None, *CommandKind]))
    def is_malformed_or_a_command(self, session: str, kind: CommandKind | None) -> None:
        log = self.log(home(session))
        match kind:
            case None:
                self.count += 1
                self.run(self._produce(Said("malformed", session), b"{%d" % self.count))
                return
            case CommandKind.EXPIRE:
                # As the sweep does: long after its last record, which is committed by then.
                state = self.table.state(session.encode()) if session.encode() in self.table.values else None
                waits = any(
                    self.said[record.value].session == session for record in log[self.committed(home(session)) :]
                )
                may_be = state is not None and state.prospect is not None and not waits
            case _:
                may_be = True
        if may_be:
            self.run(self._command(kind, session))

    # What happens meanwhile

    @rule(seconds=st.sampled_from([11, 25, 61]), calls_end=st.booleans())
    def time_passes(self, seconds: int, calls_end: bool) -> None:
        self._then(seconds, calls_end)

    def _then(self, seconds: int, calls_end: bool) -> None:
        if seconds:
            self.run(self.clock.advance(seconds))
        if calls_end:
            self._end(self.extractor.open, "well")

    @precondition(lambda self: self.extractor.open)
    @rule(
        which=st.sampled_from([slice(None), slice(1), slice(1, 2), slice(-1, None)]),
        how=st.sampled_from(["well", "well", "later", "never", "badly"]),
        then=THEN,
    )
    def calls_end(self, which: slice, how: str, then: tuple[int, bool]) -> None:
        self._end(self.extractor.open[which], how)
        self._then(*then)

    def _end(self, calls: Iterable[asyncio.Future[None]], how: str) -> None:
        for answer in calls:
            match how:
                case "well":
                    answer.set_result(None)
                case "later":
                    answer.set_exception(ModelUnavailableError("529", retry_after_seconds=1))
                case "never":
                    answer.set_exception(ModelRefusedError("declined", reason=Reason.MODEL_REFUSED))
                case _:
                    answer.set_exception(RuntimeError("a bug"))
        self.run()

    @rule(topics=st.sampled_from([{ENRICHED}, {CHANGELOG}, {DEAD}, {INGESTION}, {ENRICHED, DEAD}]), then=THEN)
    def broker_refuses_or_takes_again(self, topics: set[str], then: tuple[int, bool]) -> None:
        self.broker.failing = set() if self.broker.failing else set(topics)
        self._then(*then)

    @precondition(lambda self: self.revocation is not None or self.calm_steps > 4)
    @rule(partitions=st.sampled_from([(0, 1), (1, 0), (0,), (1,)]))
    def partitions_go_or_come_back(self, partitions: tuple[int, ...]) -> None:
        """One step at a time: they begin to go, the bound on draining is reached, they come back."""
        if self.revocation is None:
            self.run(self._revoke())
        elif not self.revocation.done():
            self.run(self._reach_bound())
        else:
            self.run(self._assign(partitions))

    @precondition(lambda self: self.calm_steps > 4)
    @rule(how=st.sampled_from(["killed", "killed", "restarted", "rebalanced", "rebalanced"]))
    def is_interrupted(self, how: str) -> None:
        if how == "killed" or self.revocation is not None:
            self.run(self._die(), self._start())
        elif how == "restarted":
            self.run(self._stop(), self._start())
        else:
            self.run(self._revoke(), self._reach_bound(), self._assign(range(PARTITIONS)))

    # What it has come to

    def _asked(self, turns: Sequence[Turn]) -> None:
        words = [" ".join(turn.content.split()) for turn in turns if turn.role == "user"]
        self.asked.update(words)
        said = self.by_words[words[-1]]
        read: list[set[str]] = []
        for state in self.states(said.session):
            if state["status"] in {"erased", "unblocked", "expired"}:
                read.clear()
            # Of refusals only the newest is remembered: test_half_done.py.
            read.append({step[:_USER_CHARS] for step in state.get("said", ())})
        hashes = {said_steps([turn])[0] for turn in turns if turn.role == "user"}
        is_free = said.session in self.redriven or self.was_expired(said.session)
        if any(hashes <= known for known in read) and not is_free:
            self.paid_again.append(said)

    # What always holds

    @invariant()
    def all_holds(self) -> None:
        # Interrupted at every other step, it would never come to anything.
        self.calm_steps += 1
        self.nobody_is_at_fault()
        self.nothing_is_committed_before_its_effect()
        self.no_answer_is_paid_twice()
        self.an_id_has_one_body()
        self.memory_follows_live_sessions()

    def nothing_is_committed_before_its_effect(self) -> None:
        for partition in range(PARTITIONS):
            committed = self.committed(partition)
            assert self.checked[partition] <= committed <= self.furthest[partition]
            for record in self.log(partition)[self.checked[partition] : committed]:
                assert self.has_had_its_effect(record), (record.partition, record.offset, self.said[record.value])
            self.checked[partition] = committed

    def nobody_is_at_fault(self) -> None:
        assert self.fatal == []

    def no_answer_is_paid_twice(self) -> None:
        assert self.paid_again == []

    def an_id_has_one_body(self) -> None:
        bodies: dict[bytes, dict[str, Any]] = {}
        for record in self.broker.records(ENRICHED):
            body = read(record.value)
            # Of more fingerprints than are kept, the first are new when they are read again; so is a whole session
            # that had expired.
            has_expired = self.was_expired((record.key or b"").decode())
            if len(self.fingerprints(record.key)) <= MAX_FINGERPRINTS and not has_expired:
                assert bodies.setdefault(dict(record.headers)["ce_id"], body) == body

    def memory_follows_live_sessions(self) -> None:
        stage, settling, bound = self.stage, self.stage._settling, self.stage._bound
        works = list(settling.works())
        live = {
            self.said[record.value].session.encode()
            for partition, position in self.flowing.items()
            for record in self.log(partition)[self.committed(partition) : position]
        }
        if self.flowing:
            assert {work.key for work in works} <= live
            assert stage.pending_sessions <= len(live)
        assert all(len(work.fingerprints) <= MAX_FINGERPRINTS for work in works)
        assert bound.items >= 0
        assert bound.bytes >= 0
        for partition in stage.ledger._partitions.values():
            assert len(partition.heap) <= 2 * len(partition.unfinished) + 64
        if not stage._intents and not stage._committing and not stage._extracting:
            held = [snapshot for work in works for snapshot in (work.snapshot, work.replaced) if snapshot is not None]
            assert (bound.items, bound.bytes) == (len(works), sum(snapshot.size_bytes for snapshot in held))
            assert not stage._commands or stage.is_full
            assert stage.ledger.unfinished() == len(works) + stage.is_full

    # How it ends

    def teardown(self) -> None:
        try:
            self._all_goes_well()
        finally:
            self.run(self._die())
            self.loop.close()

    def _all_goes_well(self) -> None:
        self.broker.failing.clear()
        self.extractor.answers_at_once = True
        for answer in list(self.extractor.open):
            answer.set_result(None)
        self.run()
        if self.revocation is None:
            self.run(self._revoke())
        if not self.is_revoked:
            self.run(self._reach_bound())
        self.run(self._assign(range(PARTITIONS)))
        for _ in range(30):
            if all(self.committed(partition) == len(self.log(partition)) for partition in range(PARTITIONS)):
                break
            self.run(self.clock.advance(61))
        self.all_holds()
        for partition in range(PARTITIONS):
            assert self.committed(partition) == len(self.log(partition))
        assert self.stage.waiting_for is None
        assert self.stage.pending_sessions == self.stage.ledger.unfinished() == 0
        for session in SESSIONS:
            self._is_as_read(session)
            given_up = [state["dead"] for state in self.states(session) if state.get("dead")]
            assert {(dead["partition"], dead["offset"]) for dead in given_up} <= self.letters()

    def _is_as_read(self, session: str) -> None:
        is_known = session.encode() in self.table.values
        state = self.table.state(session.encode()) if is_known else None
        is_erased = state is not None and state.status == "erased"
        newest = self.by_digest[state.digest].place if state is not None and state.digest else None
        readings = self.readings(session)
        assert (is_erased, newest) in {(one.is_erased, one.newest) for one in readings}, (session, readings)
        emitted = [r for r in self.broker.records(ENRICHED) if r.key == session.encode()]
        for earlier, later in pairwise(emitted):
            before, after = read(earlier.value), read(later.value)
            if "prospect" in before and "prospect" in after:
                order = [(one["snapshot_at_ms"], one["enriched_at"]) for one in (before, after)]
                assert order == sorted(order)
                # An answer of another model may leave empty what the one before it found.
                is_named = after["prospect"]["nombre"] or not before["prospect"]["nombre"]
                assert is_named or session in self.answered
        if state is None or newest is None:
            return
        self._tells_the_last(session, state.digest, newest)
        self._left_no_word_out(session, newest)
        last = read(emitted[-1].value)
        assert (last["conversation"]["digest"], last.get("fingerprint")) == (state.digest, state.fingerprint)
        said = [self.said[record.value] for record in self.of_session(session)]
        begin = max((index for index, one in enumerate(said) if one.kind == "erase"), default=0)
        assert set(state.fingerprints) <= {one.fingerprint for one in said[begin:]}
        if len(self.fingerprints(session.encode())) <= MAX_FINGERPRINTS and not self._was_given_up_or_expired(session):
            reading = self.reading_at(session, len(self.log(home(session))))
            same = {
                one.fingerprint for one in said[begin:] if one.digest == state.digest and not reading.keeps_away(one)
            }
            assert same - {None} <= set(state.fingerprints)

    def _left_no_word_out(self, session: str, newest: Place) -> None:
        """Also where the site sends its newest turns only."""
        said = [self.said[record.value] for record in self.of_session(session)]
        if {one.kind for one in said} != {"snapshot"} or self._was_given_up_or_expired(session):
            return
        told = {one.place for one in said if one.place[0] == newest[0]}
        words = {words for words, one in self.by_words.items() if one.session == session and one.place in told}
        assert words <= self.asked

    def _tells_the_last(self, session: str, digest_of_state: str, newest: Place) -> None:
        """Of the snapshots with the newest words, the last one on the topic."""
        records = list(self.of_session(session))
        said = [self.said[record.value] for record in records]
        came_home = any({"nexus-hop", REDRIVE_HEADER, AGAIN_HEADER} & dict(record.headers).keys() for record in records)
        if came_home or {one.kind for one in said} != {"snapshot"} or self._was_given_up_or_expired(session):
            return
        assert digest_of_state == [one.digest for one in said if one.place == newest][-1]


TestInterleavings = Interleavings.TestCase
TestInterleavings.settings = settings(max_examples=120, stateful_step_count=40)
