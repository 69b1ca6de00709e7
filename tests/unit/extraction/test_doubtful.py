"""A contact that the user corrects in words that cannot be read stays, and the record marks it as doubtful."""

import pytest

from nexus_stream.extraction.extractor import Findings, Turn
from nexus_stream.extraction.grounding import check
from nexus_stream.extraction.rules.extractor import find

PHONE = "mi cel es 300 555 0102 y mi correo ana.lopez@example.com"


def checked(*contents):
    turns = [Turn("user", content) for content in contents]
    return check(find(turns, default_region="CO"), turns, default_region="CO")


@pytest.mark.parametrize(
    ("correction", "fields"),
    [
        ("perdón, me equivoqué en un dígito del celular", ("telefono",)),
        ("el último es 7 no 4", ("telefono",)),
        ("el correo quedó mal escrito, está mal", ("email",)),
        ("gracias, todo bien", ()),
        ("el último es 7 no 2", ()),
        ("el celular de mi hermana está mal", ()),
    ],
)
def test_a_correction_that_cannot_be_read_makes_the_contact_doubtful(correction, fields):
    assert checked(PHONE, correction).doubtful_fields == fields


def test_the_contact_is_kept():
    found = checked(PHONE, "me equivoqué en un número del celular")
    assert (found.telefono, found.email) == ("+573005550102", "ana.lopez@example.com")


def test_a_contact_that_is_given_again_is_not_doubtful():
    assert checked(PHONE, "el celular está mal", "es 300 555 0103").doubtful_fields == ()


def test_a_models_contact_is_judged_alike():
    turns = [Turn("user", PHONE), Turn("user", "me equivoqué en un dígito del celular")]
    found = check(Findings(telefono="3005550102"), turns, default_region="CO")
    assert found.doubtful_fields == ("telefono",)
