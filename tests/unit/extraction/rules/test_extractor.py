"""The whole offline extractor: quality on labelled chats, evidence, no invented values, bounded time."""

import itertools
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nexus_stream.contracts.prospect import SignalName
from nexus_stream.extraction import grounding
from nexus_stream.extraction.evaluate_command import evaluate_cases
from nexus_stream.extraction.evaluation import read_cases, score_cases
from nexus_stream.extraction.extractor import Findings, MadeBy, Turn
from nexus_stream.extraction.rules.extractor import MAX_READ_CHARS, OfflineRules, find
from tests.unit.extraction.claims import as_claims

CASES = Path(__file__).parents[1] / "cases"
SLOWEST_BODY_SECONDS = 3.0  # of 32 such turns
SLOWEST_CHAT_SECONDS = 3.0  # of one hostile turn of 8,000 characters, on a busy machine


async def report_on(file):
    cases = read_cases(CASES / file)
    prospects, errors = await evaluate_cases(OfflineRules("CO"), cases, default_region="CO")
    assert not errors
    return score_cases(cases, prospects)


@pytest.mark.parametrize("file", ["conversations.jsonl", "varied.jsonl"])
async def test_quality_on_labelled_conversations(file):
    report = await report_on(file)
    lowest = {"email": 0.95, "telefono": 0.95, "nombre": 0.95, "objeciones": 0.9, "ocupacion": 0.9, "arquetipo": 0.9}
    assert {name: score.f1 for name, score in report.fields.items() if score.f1 < lowest.get(name, 0.9)} == {}
    assert report.fields["email"].inventions == 0
    assert report.fields["telefono"].inventions == 0
    assert report.passed >= 0.95 * len(report.cases)


BATCHES = sorted(path.name for path in CASES.glob("batch_*.jsonl"))


@pytest.mark.parametrize("file", BATCHES)
async def test_contacts_and_names_on_the_later_batches(file):
    """Occupations, archetypes and objections are the model's work: their word lists are frozen."""
    report = await report_on(file)
    email, phone, name = (report.fields[field] for field in ("email", "telefono", "nombre"))
    right = email.true_positives + phone.true_positives
    wrong = email.false_positives + phone.false_positives
    missed = email.false_negatives + phone.false_negatives
    assert wrong == 0
    assert 2 * right / (2 * right + wrong + missed) >= 0.97
    assert name.f1 >= 0.9
    assert name.inventions == 0


def test_labels():
    rules = OfflineRules()
    assert rules.labels == MadeBy("offline-rules-v1")


def test_every_value_has_evidence_whose_span_shows_it():
    turns = [
        Turn("user", "Soy Ana Ruiz, contadora. ana@example.com, 300 555 0102. Quiero empezar pero está muy caro"),
        Turn("assistant", "ok"),
        Turn("user", "perdón, es ana.ruiz@example.com"),
    ]
    found = find(turns, default_region="CO")
    shown = {signal.name: turns[signal.turn].content[signal.start : signal.end] for signal in found.signals}
    assert shown == {
        SignalName.NOMBRE: "Ana Ruiz",
        SignalName.EMAIL: "ana.ruiz@example.com",
        SignalName.CORRECCION_EMAIL: "ana.ruiz@example.com",
        SignalName.TELEFONO: "300 555 0102",
        SignalName.OCUPACION: "contadora",
        SignalName.ARQUETIPO: "contadora",
        SignalName.OBJECION_PRICE: "está muy caro",
        SignalName.INTENCION: "Quiero",
    }


def test_the_walk_through_of_the_existing_system():
    found = find(
        [
            Turn("user", "Hola, me llamo Carlos y trabajo en una empresa de software"),
            Turn("user", "Quiero saber sobre las oportunidades de inversión"),
        ],
        default_region="CO",
    )
    assert (found.nombre, found.ocupacion, found.objeciones) == ("Carlos", "empresa de software", ())
    assert found.arquetipo == "profesional_vision"


FRAGMENTS = st.sampled_from(
    [
        *("hola", "soy", "me", "llamo", "Ana", "Ruiz", "ana@example.com", ",", ".", "?", "!", "arroba", "punto", "300"),
        *("555", "0102", "+57", "uno", "dos", "cinco", "no", "tengo", "tiempo", "caro", "es", "una", "pirámide", "\n"),
        *("estafa", "mi", "hermana", "Pedro", "de", "la", "Cruz", "perdón", "con", "B:", "ignora", "las", "y", "es"),
        *("instrucciones", "{", "}", ":", "=", "😀", "quiero", "yo", "correo", "whatsapp", "trabajo", "vendo", "¿"),
    ]
)
CONTENT = st.one_of(st.text(max_size=200), st.lists(FRAGMENTS, max_size=40).map(" ".join))
TURNS = st.lists(st.builds(Turn, st.sampled_from(["user", "assistant"]), CONTENT), min_size=1, max_size=6)


@settings(max_examples=300, deadline=None)
@given(TURNS)
def test_any_text_can_be_read_and_all_findings_are_grounded(turns):
    found = find(turns, default_region="CO")
    checked = grounding.check(as_claims(found), turns, default_region="CO")
    assert checked.dropped_fields == ()
    assert (checked.email, checked.telefono) == (found.email, found.telefono)
    assert checked.nombre == found.nombre
    assert len(checked.signals) == len(found.signals)


@settings(max_examples=100, deadline=None)
@given(st.lists(CONTENT, min_size=1, max_size=4))
def test_nothing_is_ever_taken_from_assistant_turns(contents):
    found = find([Turn("assistant", content) for content in contents], default_region="CO")
    assert found.signals == ()
    assert (found.nombre, found.email, found.telefono, found.ocupacion, found.objeciones) == (
        None,
        None,
        None,
        None,
        (),
    )


REPEATED = [
    *("a", " ", "\n", "@", "a@", ".", ",", "1", "1 ", "soy ", "soy Ana ", "Ana Ruiz ", "de la ", "uno ", "punto ", "{"),
    *("<", "no tengo ", "hola, ", "me preocupan ", "mi jefe dice que es pirámide ", "perdón es con b: ", "e\u0301"),
    *("+57 300 555 0102, ", "tengo una tienda de ropa de ", "ignora a b c ", "¿es caro? ", "me dedico a la ", "yo, "),
    *("hola Ana aca. ", "soy su hija ", "Solé i Puig ", "k u r i ", "si, claro, ", "soy la Ale ", "san ", "jaja"),
    *("a arroba ", "gracias a ", "mi hija ", "(", "¿", "y ", "trabajo en ", "vendo ropa "),
]


@pytest.mark.parametrize("fragment", REPEATED)
def test_hostile_repetition_takes_bounded_time(fragment):
    text = (fragment * 8000)[:8000]
    turns = [Turn("assistant", text), Turn("user", "soy Ana Ruiz " + text), Turn("assistant", "Hola Ana " + text)]
    started = time.process_time()
    found = find(turns, default_region="CO")
    grounding.check(as_claims(found), turns, default_region="CO")
    assert time.process_time() - started < SLOWEST_CHAT_SECONDS


BODIES = {
    "phones": " ".join(str(digit) for digit in itertools.islice(itertools.cycle("3015550170264"), 4000)),
    "marks": "a" + "\u0301\u0323" * 3999,
    "whatsapps": "whatsapp 3015550170 ",
    "places of work": "trabajo como ",
    "reported": "mi mama dice que es caro ",
    "corrections": "me llamo Ana con B es ",
    "orders": "set a to ",
}


@pytest.mark.parametrize("fragment", BODIES.values(), ids=BODIES)
def test_a_hostile_body_takes_bounded_time(fragment):
    """A body of the maximum size would block every other session."""
    text = (fragment * 8000)[:8000]
    turns = [Turn("user", text)] * 32
    started = time.process_time()
    found = find(turns, default_region="CO")
    spent = time.process_time() - started
    claimed = Findings(nombre="Ana Ruiz", email="ana@example.com", telefono="+573015550171", ocupacion="barbera")
    started = time.process_time()
    grounding.check(claimed, turns, default_region="CO")
    # 0.1 to 0.3 s each; unbounded, the joined digits took 0.6 s, the marks 1.6 s and the rows of WhatsApps over 8 s.
    assert max(spent, time.process_time() - started) < SLOWEST_BODY_SECONDS
    assert found.usage.latency_ms > 0


def test_the_newest_turns_of_a_very_long_chat_are_read():
    filler = Turn("user", "bla " * 2000)
    early, late = Turn("user", "me llamo Ana Ruiz"), Turn("user", "mi correo es ana@example.com")
    few = MAX_READ_CHARS // len(filler.content) - 1
    found = find([early, *[filler] * few, late], default_region="CO")
    assert (found.nombre, found.email) == ("Ana Ruiz", "ana@example.com")
    assert [signal.turn for signal in found.signals] == [0, few + 1]
    found = find([early, *[filler] * 2 * few, late], default_region="CO")
    assert (found.nombre, found.email) == (None, "ana@example.com")
    assert [signal.turn for signal in found.signals] == [2 * few + 1]
    assert find([Turn("user", "soy Ana Ruiz. " + "bla " * MAX_READ_CHARS)], default_region="CO").nombre == "Ana Ruiz"
