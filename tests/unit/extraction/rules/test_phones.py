"""Phones in any notation become E.164. Numbers that only look like phones do not."""

import phonenumbers
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexus_stream.extraction.extractor import Turn
from nexus_stream.extraction.rules.countries import Regions
from nexus_stream.extraction.rules.e164 import to_e164
from nexus_stream.extraction.rules.number_words import word_digits
from nexus_stream.extraction.rules.phones import find_phone
from nexus_stream.extraction.text import user_turns


def phone_in(*contents, region="CO"):
    found = find_phone(user_turns([Turn("user", content) for content in contents]), Regions((region,)))
    return found.e164 if found else None


@pytest.mark.parametrize(
    ("text", "e164"),
    [
        ("300 555 0102", "+573005550102"),
        ("300-555-0105", "+573005550105"),
        ("300... 555... 01... 18", "+573005550118"),
        ("cel: 300.555.0106", "+573005550106"),
        ("+52 (55) 5555-0117", "+525555550117"),
        ("+52 1 33 5555 0141", "+523355550141"),
        ("+54 9 11 5555-0130", "+5491155550130"),
        ("+34 600 555 032", "+34600555032"),
        ("+1 305-555-0133, text me", "+13055550133"),
        ("0057 300 555 0126", "+573005550126"),
        ("mi número 57 3005550131", "+573005550131"),
        ("tres cero cero, cinco cinco cinco, cero uno, uno nueve", "+573005550119"),
        ("trescientos diez, quinientos cincuenta y cinco, cero uno veintitrés", "+573105550123"),
        ("más cincuenta y siete tres uno cinco triple cinco cero uno 24", "+573155550124"),
        ("Me llamo Ana Ruiz, 300 555 0101", "+573005550101"),
        ("Me llamo Luis Pérez, correo luis@example.com, celular 3005550101", "+573005550101"),
        ("me llamo ana y mi hermana me llamó ayer, mi número es 300 555 0101", "+573005550101"),
    ],
)
def test_every_notation_becomes_e164(text, e164):
    assert phone_in(text) == e164


@pytest.mark.parametrize(
    "text",
    [
        "vendí una finca en $3.100.000.000",
        "cuesta 3.005.550.167 pesos",
        "mi cédula es 3005550168",
        "el radicado es 3005550129 y nadie responde",
        "nací el 12/05/2024",
        "tengo 3 hijos, 45 años y gano 1.300.000",
        "llame a mi hija al 310 555 0144",
        "el 310 555 0173 es de mi marido",
        "me llamó alguien del 310 555 0174",
        "Me llamo Ana y ayer me llamó un asesor, 310 555 0174",
        "me llamo un asesor del 310 555 0174",
        "ayer me llamo pedro del 310 555 0174",
        "pino300555010277@",
        "300 555 01",
    ],
)
def test_numbers_that_are_not_the_users_phone_are_ignored(text):
    assert phone_in(text) is None


def test_the_whatsapp_number_wins():
    assert phone_in("300 555 0127 para llamadas y 310 555 0128 para WhatsApp") == "+573105550128"
    assert phone_in("mi whatsapp es 310 555 0128 y el fijo 601 555 0129") == "+573105550128"


def test_the_latest_correction_wins_also_over_whatsapp():
    assert phone_in("whatsapp 304 555 0189", "perdón, es 304 555 0190") == "+573045550190"


def test_incident_a_colombia_only_rule_refused_other_countries():
    assert phone_in("+593 99 555 0180") == "+593995550180"


def test_a_bare_number_is_read_in_the_default_region():
    assert phone_in("55 5555 0117", region="MX") == "+525555550117"
    assert phone_in("55 5555 0117", region="CO") is None


@given(st.text(alphabet="0123456789+-(). ,y", max_size=60))
def test_every_found_phone_is_valid_and_made_of_the_texts_digits(text):
    e164 = phone_in(text)
    if e164 is not None:
        assert phonenumbers.is_valid_number(phonenumbers.parse(e164))
        digits = "".join(character for character in text if character.isdigit())
        assert str(phonenumbers.parse(e164).national_number) in digits


def test_to_e164_refuses_invalid_numbers():
    assert to_e164("+57300", "CO") is None
    assert to_e164("hola", "CO") is None


def test_number_words():
    assert word_digits(["noventa", "y", "dos"]) == "92"
    assert word_digits(["doble", "cero"]) == "00"
    assert word_digits(["ana"]) is None
