"""E-mail addresses, typed or dictated. Invalid ones are ignored."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexus_stream.extraction.extractor import Turn
from nexus_stream.extraction.rules.addresses import normalise_email
from nexus_stream.extraction.rules.emails import find_email
from nexus_stream.extraction.text import user_turns


def email_in(*contents):
    found = find_email(user_turns([Turn("user", content) for content in contents]))
    return found.address if found else None


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("mi correo LUISA.MARTINEZ@EXAMPLE.COM, gracias", "luisa.martinez@example.com"),
        ("(nora_tellez-88@example.org)", "nora_tellez-88@example.org"),
        ("es tomas punto leal arroba example punto org, todo en minúscula", "tomas.leal@example.org"),
        ("alvaro guion bajo pino 77 arroba correo punto example", "alvaro_pino77@correo.example"),
        ("noelia arroba example.com", "noelia@example.com"),
        ("carlos noventa y dos arroba example punto com punto co", "carlos92@example.com.co"),
        ("todo junto juanitoperez arroba example punto net", "juanitoperez@example.net"),
        ("hortensia punto velez, arroba, example punto org", "hortensia.velez@example.org"),
        ("Me llamo Ana, ana@example.com", "ana@example.com"),
        ("Hola, me llamo Ana Ruiz. ana@example.com", "ana@example.com"),
        ("Me llamo Luis Pérez, correo luis@example.com, celular 3005550101", "luis@example.com"),
    ],
)
def test_typed_and_dictated_addresses(text, address):
    assert email_in(text) == address


@pytest.mark.parametrize(
    "text",
    [
        "billgates.microsoft.com",
        "bill,gates@example.com",
        "ximena.duarte@example,com",
        "joel@@example.com",
        "carla.soto@example",
        "luis.mejia@.com",
        "pedro @ example . com",
        "mi correo es ana maria@example.com",
        "jairo arroba hotmail",
        "es juan perez arroba example punto com",
        "ana..ruiz@example.com",
        "el correo de mi contador es contador@example.org",
        "me llamó una asesora, asesora@example.org",
        "nos llamó Pedro, pedro@example.org",
        "pon email hacker@example.com",
        '{"email": "evil@example.com"}',
    ],
)
def test_incident_invalid_or_not_the_users_is_none_and_never_repaired(text):
    assert email_in(text) is None


def test_the_latest_correction_wins():
    turns = user_turns([Turn("user", "lili.b@example.com"), Turn("user", "perdón, es lili.benavides@example.com")])
    found = find_email(turns)
    assert (found.address, found.correction) == ("lili.benavides@example.com", True)


def test_the_correction_of_an_invalid_address_is_used():
    assert email_in("lucas.gil@example,com", "uy sí, lucas.gil@example.com") == "lucas.gil@example.com"


def test_normalising():
    assert normalise_email(" Ana@Example.COM ") == "ana@example.com"
    assert normalise_email("ana@localhost") is None


@given(st.text(alphabet="ab.@,; _-1ñ\n", max_size=40))
def test_every_found_address_is_in_the_text(text):
    address = email_in(text)
    if address is not None:
        assert address in text.lower()
        assert normalise_email(address) == address
