"""A session's record is cumulative: empty values erase nothing, corrections replace, the newest valid contact wins."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexus_stream.contracts.prospect import Arquetipo, Momento, Objecion, Prospect, Signal, SignalName
from nexus_stream.extraction.grounding import Checked
from nexus_stream.extraction.merging import better_name, fill, merge

KNOWN = Prospect(
    nombre="Pablo Hoyos",
    email="pablo@example.com",
    telefono="+573005550102",
    ocupacion="contador",
    nivel_interes=6.5,
    objeciones=(Objecion.TIME,),
    arquetipo=Arquetipo.PROFESIONAL_VISION,
    momento_optimo=Momento.TIBIO,
)


def signal(name, turn=0, start=0, end=4):
    return Signal(name=name, turn=turn, start=start, end=end)


def test_incident_nulls_and_empty_strings_never_erase():
    for nothing in (Checked(), Checked(nombre="", email="", telefono=" ", ocupacion="")):
        assert merge(KNOWN, (), nothing)[0] == KNOWN


@pytest.mark.parametrize(
    ("known", "found", "kept"),
    [
        (None, "Ana", "Ana"),
        ("Pablo Hoyos", "Pablo", "Pablo Hoyos"),
        ("Pablo Hoyos", "Hoyos", "Pablo Hoyos"),
        ("Pablo Hoyos", "Andrés", "Pablo Hoyos"),
        ("Pablo", "Andrés", "Pablo"),
        ("Pablo", "Pablo Hoyos", "Pablo Hoyos"),
        ("Pablo Hoyos", "Pablo Andrés Hoyos Gil", "Pablo Andrés Hoyos Gil"),
        ("Pablo Hoyos", "Andrés Gil", "Andrés Gil"),
        ("María de la Cruz", "maria cruz", "María de la Cruz"),
    ],
)
def test_incident_a_known_name_is_never_shortened(known, found, kept):
    assert better_name(known, found, corrected=False) == kept


def test_a_correction_by_the_user_replaces_also_a_longer_name():
    found = Checked(nombre="Ana Gil", signals=(signal(SignalName.CORRECCION_NOMBRE),))
    assert merge(KNOWN, (), found)[0].nombre == "Ana Gil"


@pytest.mark.parametrize(
    ("known", "found", "kept"),
    [
        ("Juana Diaz", "Juana", "Juana Diaz"),
        ("Juana Diaz", "Diaz", "Juana Diaz"),
        ("Ana de la Cruz", "Ana de", "Ana de la Cruz"),
        ("Juana Diaz", "Juana Díaz", "Juana Díaz"),
        ("Juana Diaz", "Joana Diaz", "Joana Diaz"),
        ("Juana Diaz", "Joana", "Joana"),
    ],
)
def test_incident_an_old_correction_never_shortens_a_name(known, found, kept):
    """The words of a correction stay in the chat, and a later answer may quote them for a shorter name."""
    assert better_name(known, found, corrected=True) == kept


def test_newest_valid_contact_wins_and_objections_unite_in_the_contracts_order():
    found = Checked(email="p@example.org", telefono="+573005550103", objeciones=(Objecion.MLM, Objecion.PRICE))
    prospect, _ = merge(KNOWN, (), found)
    assert (prospect.email, prospect.telefono) == ("p@example.org", "+573005550103")
    assert prospect.objeciones == (Objecion.PRICE, Objecion.TIME, Objecion.MLM)


def test_score_and_moment_come_from_the_merged_record():
    prospect, signals = merge(KNOWN, (signal(SignalName.INTENCION),), Checked())
    assert (prospect.nivel_interes, prospect.momento_optimo) == (8.5, Momento.CALIENTE)
    assert [one.name for one in signals] == [SignalName.INTENCION]


def test_one_signal_a_name_and_the_newest_span_wins():
    _, signals = merge(KNOWN, (signal(SignalName.EMAIL, 0),), Checked(signals=(signal(SignalName.EMAIL, 4),)))
    assert [(one.name, one.turn) for one in signals] == [(SignalName.EMAIL, 4)]


def test_a_kept_name_keeps_its_own_evidence():
    known_signals = (signal(SignalName.NOMBRE, 0),)
    _, signals = merge(KNOWN, known_signals, Checked(nombre="Pablo", signals=(signal(SignalName.NOMBRE, 6),)))
    assert signals == known_signals


NAMES = st.sampled_from([None, "", "Ana", "Ana Gil", "Ana María Gil", "Luz Paz", "Gil"])


@given(NAMES, NAMES)
def test_merging_the_same_extraction_twice_changes_nothing(first, second):
    once, signals = merge(Prospect(nombre=first or None), (), Checked(nombre=second))
    twice, _ = merge(once, signals, Checked(nombre=second))
    assert twice == once
    assert (once.nombre is None) == (not first and not second)


def test_the_rules_fill_gaps_and_leave_a_models_values():
    known = Prospect(nombre="Carlos", email="carlos@example.com", ocupacion="contador")
    known_signals = (signal(SignalName.EMAIL, turn=0), signal(SignalName.OCUPACION, turn=0))
    found = Checked(
        nombre="Carlos Rojas",
        email="otro@example.com",
        telefono="+573005550102",
        ocupacion="vendo arepas",
        objeciones=(Objecion.PRICE,),
        signals=tuple(
            signal(name, turn=2)
            for name in (SignalName.NOMBRE, SignalName.EMAIL, SignalName.TELEFONO, SignalName.OCUPACION)
        ),
    )
    after, signals = fill(known, known_signals, found)
    assert (after.nombre, after.email, after.telefono) == ("Carlos Rojas", "carlos@example.com", "+573005550102")
    assert (after.ocupacion, after.objeciones) == ("contador", (Objecion.PRICE,))
    turns = {one.name: one.turn for one in signals}
    assert (turns[SignalName.EMAIL], turns[SignalName.OCUPACION], turns[SignalName.TELEFONO]) == (0, 0, 2)


@pytest.mark.parametrize(
    ("found", "corrected", "kept"),
    [
        ("Pedro Gil", False, "Carlos Rojas"),
        ("Pedro Gil", True, "Pedro Gil"),
        ("Carlos", True, "Carlos Rojas"),
        ("Carlos Rojas Mora", False, "Carlos Rojas Mora"),
        (None, False, "Carlos Rojas"),
    ],
)
def test_the_rules_replace_a_models_name_by_a_longer_form_or_a_correction_only(found, corrected, kept):
    names = [SignalName.NOMBRE, *([SignalName.CORRECCION_NOMBRE] if corrected else [])]
    checked = Checked(nombre=found, signals=tuple(signal(name, turn=2) for name in names))
    after, signals = fill(Prospect(nombre="Carlos Rojas"), (signal(SignalName.NOMBRE, turn=0),), checked)
    assert after.nombre == kept
    (turn,) = [one.turn for one in signals if one.name is SignalName.NOMBRE]
    assert turn == (2 if kept == found else 0)


def archetype_signal(confirmed, turn):
    return Signal(name=SignalName.ARQUETIPO, turn=turn, start=0, end=4, confirmed=confirmed)


def test_an_unconfirmed_signal_never_replaces_a_confirmed_one():
    known = Prospect(arquetipo=Arquetipo.LIDER_HOGAR)
    unsure = Checked(arquetipo=Arquetipo.PROFESIONAL_VISION, signals=(archetype_signal(False, 3),))
    prospect, signals = merge(known, [archetype_signal(True, 1)], unsure)
    assert (prospect.arquetipo, signals) == (Arquetipo.LIDER_HOGAR, (archetype_signal(True, 1),))
    sure = Checked(arquetipo=Arquetipo.PROFESIONAL_VISION, signals=(archetype_signal(True, 3),))
    prospect, signals = merge(known, [archetype_signal(False, 1)], sure)
    assert (prospect.arquetipo, signals) == (Arquetipo.PROFESIONAL_VISION, (archetype_signal(True, 3),))
    prospect, _ = merge(known, [archetype_signal(False, 1)], unsure)
    assert prospect.arquetipo is Arquetipo.PROFESIONAL_VISION


def test_only_confirmed_signals_move_the_interest():
    for confirmed, interest in ((True, 2), (False, 0)):
        intent = Signal(name=SignalName.INTENCION, turn=0, start=0, end=4, confirmed=confirmed)
        assert merge(None, (), Checked(signals=(intent,)))[0].nivel_interes == interest
