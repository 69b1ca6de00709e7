"""What no model reads: the offline rules' reading is stored with its reason, and a redrive's answer replaces it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import orjson
import pytest

from nexus_stream.contracts.headers import (
    ANSWER_HEADER,
    EVENT_ID_HEADER,
    LETTER_ID_HEADER,
    ORIGIN_TIMESTAMP_HEADER,
    REASON_HEADER,
    REDRIVE_HEADER,
    Headers,
)
from nexus_stream.contracts.prospect import Signal, SignalName
from nexus_stream.delivery.outcomes import DeadLettered, Stale
from nexus_stream.errors import (
    BudgetExhaustedError,
    ModelAnswerError,
    ModelRefusedError,
    OverBudgetError,
    PermanentError,
    Reason,
)
from nexus_stream.extraction.answered import encode_failure
from nexus_stream.extraction.extractor import Extractor, Findings, MadeBy, Turn
from nexus_stream.extraction.fallback import Fallback
from nexus_stream.extraction.rules.extractor import OfflineRules
from nexus_stream.settings import load_settings
from nexus_stream.testing.extractor import ScriptedExtractor
from tests.unit.enrichment.test_stage import DEAD, ENRICHED, INGESTION, Bench

CHAT = ("Hola, me llamo Carlos Rojas y mi celular es 300 555 0102",)
PHONE = "+573005550102"
LONGER = (*CHAT, "Claro", "Mi correo es carlos@example.com")


class Model(ScriptedExtractor):
    """Reads the name, and e-mails that are written; never a phone. It fails while ``error`` is set."""

    def __init__(self) -> None:
        super().__init__(self._fail)
        self.error: Exception | None = None

    def _fail(self, turns: Sequence[Turn]) -> None:
        if self.error is not None:
            raise self.error

    async def extract(self, turns: Sequence[Turn], region: str | None = None) -> Findings:
        findings = await super().extract(turns)
        for index, turn in enumerate(turns):
            for word in turn.content.split() if turn.role == "user" else ():
                if "@" in word:
                    start = turn.content.index(word)
                    signal = Signal(name=SignalName.EMAIL, turn=index, start=start, end=start + len(word))
                    return Findings(
                        nombre=findings.nombre, email=word, signals=(*findings.signals, signal), usage=findings.usage
                    )
        return findings


class RulesBench(Bench):
    def __init__(self, **settings: Any) -> None:
        super().__init__(
            load_settings(environ={}, topic_partitions=1, settle_seconds=1, max_wait_seconds=60, **settings)
        )
        self.model = Model()
        self.use(Fallback(self.model, OfflineRules(), at_cap=False))

    def use(self, extractor: Extractor) -> None:
        self.extractor = extractor  # type: ignore[assignment]

    async def say(self, texts: Sequence[str], **more: Any) -> int:
        offset = await self.post(texts, **more)
        await self.clock.advance(5)
        return offset

    async def redrive(self, texts: Sequence[str]) -> int:
        stamp = str(self.clock.time_ms() - 1000).encode()
        return await self.say(texts, headers=((REDRIVE_HEADER, b"1"), (ORIGIN_TIMESTAMP_HEADER, stamp)))

    def values(self) -> tuple[str | None, str | None, str | None]:
        prospect = self.enriched()[-1]["prospect"]
        return prospect["nombre"], prospect["email"], prospect["telefono"]

    def made(self) -> tuple[str, str | None]:
        extraction = self.enriched()[-1]["extraction"]
        return extraction["extractor"], extraction["instead_of"]

    def dead(self) -> list[dict[str, bytes]]:
        return [dict(record.headers) for record in self.broker.records(DEAD)]


@pytest.fixture
async def bench() -> AsyncIterator[RulesBench]:
    one = RulesBench()
    await one.start()
    yield one
    assert one.fatal == []
    assert (one.stage._bound.items, one.stage._bound.bytes) == (0, 0)
    await one.crash()


REFUSED = ModelRefusedError("declined", reason=Reason.MODEL_REFUSED)


@pytest.mark.parametrize(
    "error",
    [
        REFUSED,
        ModelRefusedError("cut off", reason=Reason.MODEL_TRUNCATED),
        ModelAnswerError("twice no JSON", reason=Reason.MODEL_ANSWER_INVALID),
        OverBudgetError("over the whole cap"),
        RuntimeError("a bug"),
    ],
)
async def test_a_failure_of_the_model_costs_no_contact(bench: RulesBench, error: Exception):
    bench.model.error = error
    await bench.say(CHAT, fingerprint="fp-1")
    reason = error.reason if isinstance(error, PermanentError) else Reason.INTERNAL_ERROR
    assert bench.values() == ("Carlos Rojas", None, PHONE)
    assert bench.made() == ("offline-rules-v1", reason.value)
    (letter,) = bench.dead()
    assert letter[REASON_HEADER].decode() == reason.value
    assert bench.seen.outcomes == [(0, DeadLettered(reason))]
    assert bench.broker.committed[INGESTION, 0] == 1
    state = bench.table.state(b"s-1")
    assert (state.status, state.fingerprints, state.counters.calls) == ("enriched", ("fp-1",), 0)


async def test_nobody_asks_again_for_the_same_words(bench: RulesBench):
    bench.model.error = REFUSED
    await bench.say(CHAT)
    bench.model.error = None
    await bench.say(CHAT, fingerprint="fp-late")
    await bench.say((*CHAT, "Claro, un momento"))
    assert len(bench.model.calls) == 1
    assert len(bench.dead()) == 1
    last = bench.enriched()[-1]
    assert (last["fingerprint"], last["conversation"]["turns"]) == ("fp-late", 2)
    assert bench.values() == ("Carlos Rojas", None, PHONE)


@pytest.mark.parametrize("failing", [ENRICHED, DEAD])
async def test_record_and_letter_are_both_sent_again_with_their_ids_after_a_crash_between_them(
    bench: RulesBench, failing: str
):
    bench.model.error = REFUSED
    bench.broker.failing.add(failing)
    await bench.say(CHAT)
    assert bench.broker.committed.get((INGESTION, 0), 0) == 0
    bench.broker.failing.clear()
    await bench.restart()
    await bench.clock.advance(60)
    assert bench.broker.committed[INGESTION, 0] == 1
    assert len(bench.model.calls) == 1
    ids = {dict(record.headers)[EVENT_ID_HEADER] for record in bench.broker.records(ENRICHED)}
    letters = {letter[LETTER_ID_HEADER] for letter in bench.dead()}
    assert (len(ids), letters) == (1, {b"nexus-prospect-ingestion-0-0"})
    assert len(bench.broker.records(ENRICHED)) == (1 if failing == ENRICHED else 2)


async def test_a_redrive_asks_the_model_and_no_value_of_the_rules_stays(bench: RulesBench):
    bench.model.error = REFUSED
    await bench.say(CHAT)
    bench.model.error = None
    await bench.redrive(CHAT)
    assert bench.values() == ("Carlos Rojas", None, None)
    assert bench.made() == ("claude", None)
    state = bench.table.state(b"s-1")
    assert (state.dead, state.base, state.counters.calls) == (None, None, 1)
    # Read again, both records cost nothing.
    bench.broker.committed.clear()
    await bench.restart()
    await bench.clock.advance(60)
    assert len(bench.model.calls) == 2
    assert bench.values() == ("Carlos Rojas", None, None)


async def test_a_redrive_that_fails_too_keeps_the_reading_and_a_later_one_replaces_it(bench: RulesBench):
    bench.model.error = REFUSED
    await bench.say(CHAT)
    await bench.redrive(CHAT)
    assert (bench.values(), len(bench.dead())) == (("Carlos Rojas", None, PHONE), 2)
    bench.model.error = None
    await bench.redrive(CHAT)
    assert bench.values() == ("Carlos Rojas", None, None)


async def test_values_of_earlier_snapshots_survive_the_redrive(bench: RulesBench):
    first = ("Hola, mi correo es carlos@example.com",)
    await bench.say(first)
    longer = (*first, "Claro", "me llamo Carlos Rojas, 300 555 0102")
    bench.model.error = REFUSED
    await bench.say(longer)
    assert bench.values() == ("Carlos Rojas", "carlos@example.com", PHONE)
    bench.model.error = None
    await bench.redrive(longer)
    assert bench.values() == ("Carlos Rojas", "carlos@example.com", None)


@pytest.mark.parametrize(
    ("said", "email"),
    [
        ("Mi correo es otro@example.com", "carlos@example.com"),
        ("Perdón, me equivoqué, mi correo es otro@example.com", "otro@example.com"),
    ],
)
async def test_the_rules_only_fill_gaps_in_a_models_record_and_follow_corrections(
    bench: RulesBench, said: str, email: str
):
    await bench.say(LONGER)
    bench.model.error = REFUSED
    await bench.say((*LONGER, "Gracias", said))
    assert bench.values() == ("Carlos Rojas", email, PHONE)


async def test_a_models_answer_to_a_longer_snapshot_replaces_the_rules_reading(bench: RulesBench):
    bench.model.error = REFUSED
    await bench.say(CHAT)
    bench.model.error = None
    await bench.say(LONGER)
    assert (bench.values(), bench.made()) == (("Carlos Rojas", "carlos@example.com", None), ("claude", None))
    # The letter of words that were read since: nothing is left to ask.
    await bench.redrive(CHAT)
    assert len(bench.model.calls) == 2


async def test_a_contact_in_words_that_the_site_cut_off_stays_until_they_are_redriven(bench: RulesBench):
    bench.model.error = REFUSED
    told = (*CHAT, "Claro", "Cuéntame más", "Sí")
    await bench.say(told)
    bench.model.error = None
    await bench.say((*told[2:], "me llamo Carlos Rojas Díaz"))
    assert bench.values() == ("Carlos Rojas Díaz", None, PHONE)
    await bench.redrive(told)
    assert bench.values() == ("Carlos Rojas Díaz", None, None)
    assert bench.table.state(b"s-1").turns == 3, "the newest snapshot stays the newest"


async def test_a_redrive_of_a_history_that_ended_forgets_no_newer_word(bench: RulesBench):
    bench.model.error = REFUSED
    await bench.say(CHAT)
    letter_at = bench.clock.time_ms() - 5000
    bench.model.error = None
    anew = ("Buenas, mi correo es carlos@example.com",)
    await bench.say(anew)
    assert bench.values() == ("Carlos Rojas", "carlos@example.com", PHONE)
    origin = (ORIGIN_TIMESTAMP_HEADER, str(letter_at).encode())
    await bench.say(CHAT, headers=((REDRIVE_HEADER, b"1"), origin))
    assert bench.values() == ("Carlos Rojas", "carlos@example.com", None)
    await bench.say((*anew, "Claro", "ok"))
    assert len(bench.model.calls) == 4
    bench.broker.committed.clear()
    await bench.restart()
    await bench.clock.advance(60)
    assert len(bench.model.calls) == 4


RESTARTED = (CHAT, ("Buenas, mi correo es carlos@example.com",))
TOLD = (*CHAT, "Claro", "Cuéntame más", "Sí")
CUT = (TOLD, (*TOLD[2:], "mi correo es carlos@example.com"))


@pytest.mark.parametrize("letters", [RESTARTED, CUT])
@pytest.mark.parametrize("is_reversed", [False, True])
async def test_two_letters_of_one_session_can_both_be_redriven_and_no_value_of_the_rules_stays(
    bench: RulesBench, letters: Sequence[Sequence[str]], is_reversed: bool
):
    bench.model.error = REFUSED
    sent: list[tuple[Sequence[str], Headers]] = []
    for texts in letters:
        await bench.say(texts)
        origin = (ORIGIN_TIMESTAMP_HEADER, str(bench.clock.time_ms() - 5000).encode())
        sent.append((texts, ((REDRIVE_HEADER, b"1"), origin)))
        await bench.clock.advance(100)
    assert bench.values() == ("Carlos Rojas", "carlos@example.com", PHONE)
    state = bench.table.state(b"s-1")
    assert state.base is not None
    assert state.base.prospect.telefono is None, "no model read it"
    first, second = reversed(sent) if is_reversed else sent
    await bench.say(first[0], headers=first[1])
    assert bench.values()[2] == PHONE, "its words, or others of the rules, wait for a model"
    # A redrive that fails once more loses nothing.
    await bench.say(second[0], headers=second[1])
    assert bench.values() == ("Carlos Rojas", "carlos@example.com", PHONE)
    bench.model.error = None
    calls = len(bench.model.calls)
    for texts, headers in (first, second):
        await bench.say(texts, headers=headers)
    assert len(bench.model.calls) == calls + 2
    assert bench.values() == ("Carlos Rojas", "carlos@example.com", None)
    state = bench.table.state(b"s-1")
    assert (state.base, state.read_instead) == (None, ())


async def test_a_contact_of_a_history_that_ended_stays_while_the_rules_read_the_next_one(bench: RulesBench):
    bench.model.error = REFUSED
    await bench.say(CHAT)
    anew = RESTARTED[1]
    await bench.say(anew)
    await bench.say((*anew, "Claro", "ok"))
    assert bench.values() == ("Carlos Rojas", "carlos@example.com", PHONE)
    bench.model.error = None
    await bench.say((*anew, "Claro", "ok, listo"))
    assert bench.values() == ("Carlos Rojas", "carlos@example.com", PHONE), "no model has read the first history"


async def test_a_models_reading_of_the_whole_history_drops_every_value_of_the_rules(bench: RulesBench):
    bench.model.error = REFUSED
    for texts in CUT:
        await bench.say(texts)
    bench.model.error = None
    await bench.say((*TOLD, "mi correo es carlos@example.com", "Gracias", "listo"))
    assert bench.values() == ("Carlos Rojas", "carlos@example.com", None)
    assert bench.table.state(b"s-1").base is None


async def test_later_snapshots_are_read_by_the_rules_afresh_while_the_model_refuses(bench: RulesBench):
    bench.model.error = REFUSED
    await bench.say(CHAT)
    await bench.say((*CHAT, "Claro", "Perdón, mi celular es 300 555 0199"))
    assert bench.values()[2] == "+573005550199"
    bench.model.error = None
    await bench.redrive((*CHAT, "Claro", "Perdón, mi celular es 300 555 0199"))
    assert bench.values() == ("Carlos Rojas", None, None)


async def test_of_two_snapshots_that_settle_together_the_rules_read_the_newest(bench: RulesBench):
    bench.model.error = REFUSED
    await bench.post(CHAT)
    await bench.say(LONGER)
    assert bench.values() == ("Carlos Rojas", "carlos@example.com", PHONE)
    assert (len(bench.model.calls), len(bench.dead())) == (1, 1)


async def test_without_consent_nobody_reads(bench: RulesBench):
    bench.model.error = REFUSED
    messages = [{"role": "user", "content": "me llamo Carlos Rojas"}]
    await bench.post_bytes(orjson.dumps({"messages": messages, "sessionId": "s-1", "metadata": {"consent": False}}))
    await bench.clock.advance(5)
    assert (bench.values(), bench.made()) == ((None, None, None), ("none", None))
    assert (bench.model.calls, bench.dead()) == ([], [])


@pytest.mark.parametrize("texts", [CHAT, (*CHAT, "Claro", "No uses mis datos")])
async def test_a_redrive_reads_nothing_after_the_consent_was_withdrawn(bench: RulesBench, texts: Sequence[str]):
    async def say(texts: Sequence[str], consent: bool, headers: Headers = ()) -> None:
        messages = [{"role": ("user", "assistant")[n % 2], "content": text} for n, text in enumerate(texts)]
        body = {"messages": messages, "sessionId": "s-1", "metadata": {"consent": consent}}
        await bench.post_bytes(orjson.dumps(body), headers=headers)
        await bench.clock.advance(5)

    bench.model.error = REFUSED
    await say(CHAT, True)
    letter_at = bench.clock.time_ms() - 5000
    bench.model.error = None
    await bench.clock.advance(100)
    await say(texts, False)
    known = bench.table.state(b"s-1")
    origin = (ORIGIN_TIMESTAMP_HEADER, str(letter_at).encode())
    await say(CHAT, True, ((REDRIVE_HEADER, b"1"), origin))
    assert len(bench.model.calls) == 1
    assert bench.seen.outcomes[-1][1] == Stale()
    assert bench.table.state(b"s-1") == known
    assert known.consent is False


async def test_if_the_rules_fail_too_there_is_a_letter_and_no_record(
    bench: RulesBench, monkeypatch: pytest.MonkeyPatch
):
    async def fail(*_: object) -> Findings:
        raise ValueError("a bug in the rules")

    monkeypatch.setattr(OfflineRules, "read_instead", fail)
    bench.model.error = REFUSED
    await bench.say(CHAT)
    assert (bench.enriched(), len(bench.dead())) == ([], 1)
    await bench.say(CHAT)
    assert len(bench.model.calls) == 1


@pytest.mark.parametrize("live", [lambda: Fallback(Model(), OfflineRules(), at_cap=False), OfflineRules])
async def test_what_a_batch_could_not_read_is_read_by_the_rules_of_any_enricher(
    bench: RulesBench, live: Callable[[], Extractor]
):
    bench.use(live())
    await bench.restart()
    offset = await bench.post(CHAT)
    snapshot = next(bench.stage._settling.works()).snapshot
    header: Headers = ((ANSWER_HEADER, encode_failure(snapshot.digest, REFUSED)),)
    await bench.crash()
    await bench.start()
    await bench._submit(offset, b"k", snapshot.record.value, header, 0)
    await bench.clock.advance(5)
    assert (bench.values(), bench.made()) == (("Carlos Rojas", None, PHONE), ("offline-rules-v1", "model_refused"))
    assert len(bench.dead()) == 1


async def test_a_redrive_at_the_cap_does_not_use_the_letter_up(bench: RulesBench):
    bench.use(Fallback(bench.model, OfflineRules(), at_cap=True))
    await bench.restart()
    bench.model.error = REFUSED
    await bench.say(CHAT)
    bench.model.error = BudgetExhaustedError("spent", retry_after_seconds=60)
    await bench.redrive(CHAT)
    assert (bench.values(), bench.made()) == (("Carlos Rojas", None, PHONE), ("offline-rules-v1", None))
    calls = len(bench.model.calls)
    # Read again, it costs no second call.
    bench.broker.committed.clear()
    await bench.restart()
    await bench.clock.advance(60)
    assert len(bench.model.calls) == calls
    # Another telling of the same words is not a reason to ask.
    await bench.say((*CHAT, "Claro, un momento"))
    assert len(bench.model.calls) == calls
    bench.model.error = None
    await bench.redrive(CHAT)
    assert (bench.values(), bench.made()) == (("Carlos Rojas", None, None), ("claude", None))


async def test_at_the_cap_a_models_next_answer_replaces_what_the_rules_read_meanwhile(bench: RulesBench):
    class AtCap(Model):
        async def extract(self, turns: Sequence[Turn], region: str | None = None) -> Findings:
            if self.error is not None:
                return await OfflineRules().read_instead(turns, None)
            return await super().extract(turns)

    bench.model = AtCap()
    bench.use(bench.model)
    await bench.restart()
    bench.model.error = REFUSED
    await bench.say(CHAT)
    assert (bench.made(), bench.dead()) == (("offline-rules-v1", None), [])
    bench.model.error = None
    await bench.say(LONGER)
    assert bench.values() == ("Carlos Rojas", "carlos@example.com", None)
    assert MadeBy(bench.made()[0]).is_rules is False
