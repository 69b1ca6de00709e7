"""The selection of a person, and its hash for the audit."""

from __future__ import annotations

import pytest

from nexus_stream.contracts.subject import subject_hash
from nexus_stream.errors import ConfigurationError
from nexus_stream.privacy.changelog import matches
from nexus_stream.privacy.people import Person
from nexus_stream.privacy.selector import Selector


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        ("email", " Ana@Example.com ", "ana@example.com"),
        ("phone", "300 555 0102", "+573005550102"),
        ("phone", "+1 202 555 0102", "+12025550102"),
        ("session", "s-1", "s-1"),
        ("fingerprint", "AbC", "AbC"),
    ],
)
def test_values_are_compared_as_they_are_stored(kind, text, value):
    assert Selector.of(kind, text, "", "CO").value == value


@pytest.mark.parametrize(("kind", "text"), [("email", "ana"), ("phone", "x"), ("session", " "), ("email", "a@b@c")])
def test_invalid_values_are_refused(kind, text):
    with pytest.raises(ConfigurationError):
        Selector.of(kind, text, "", "CO")


@pytest.mark.parametrize(
    ("asked", "stored", "same"),
    [
        ("+573005550102", "+573005550102", True),
        ("+573005550102", "+57 300 555 0102", True),
        ("+573005550102", "300 555 0102", True),
        ("+573005550102", "(300) 555-0102", True),
        ("+573005550102", "573005550102", True),
        ("+573005550102", "0057 300 555 0102", True),
        ("+573005550102", " (+57) 300.555.0102", True),
        ("300 555 0102", "+57 300 555 0102", True),
        ("300 555 0102", "3005550102", True),
        # Another country's, by its code.
        ("300 555 0102", "+1 300 555 0102", False),
        # Greece's, whose digits happen to be the same.
        ("300 555 0102", "+30 05 55 01 02", False),
        ("+1 202 555 0102", "(202) 555-0102", True),
        ("+1 202 555 0102", "1-202-555-0102", True),
        ("+44 20 7946 0018", "020 7946 0018", True),
        ("+44 20 7946 0018", "+44 (0)20 7946 0018", True),
        ("+573005550102", "300 555 0103", False),
        ("+573005550102", "555 0102", False),
        ("+573005550102", "", False),
        ("+573005550102", "no phone", False),
    ],
)
def test_a_phone_number_is_known_however_others_write_it(asked, stored, same):
    assert Selector.of("phone", asked, "", "CO").is_number(stored) is same


def test_nobody_reads_the_value_in_a_log():
    assert "ana" not in repr(Selector.of("email", "ana@example.com", "", "CO"))


def test_a_hash_is_of_one_tenant_and_kind():
    hashes = {subject_hash(tenant, kind, "x") for tenant in ("", "a") for kind in ("session", "fingerprint")}
    assert len(hashes) == 4


def test_a_session_matches_by_id_fingerprint_hash_email_or_phone():
    person = Person("acme", {"s-1"}, {"fp-1"})
    by_email = Selector.of("email", "ana@example.com", "acme", "CO")
    by_phone = Selector.of("phone", "+573005550102", "acme", "CO")
    erased = {"erasure": {"fingerprint_hashes": [subject_hash("acme", "fingerprint", "fp-1")]}}
    for state, selector, expected in (
        ({"session_id": "s-1"}, by_email, True),
        ({"session_id": "s-2", "fingerprints": ["fp-0", "fp-1"]}, by_email, True),
        ({"session_id": "s-2", **erased}, by_email, True),
        ({"session_id": "s-2", "prospect": {"email": "Ana@example.com"}}, by_email, True),
        ({"session_id": "s-2", "prospect": {"email": "ana@example.com"}}, by_phone, False),
        ({"session_id": "s-2", "prospect": {"telefono": "+573005550102"}}, by_phone, True),
        ({"session_id": "s-2", "prospect": {"telefono": "300 555 0102"}}, by_phone, True),
        ({"session_id": "s-2", "prospect": {"telefono": None}}, by_phone, False),
        ({"session_id": "s-2", "prospect": {}}, by_email, False),
        # the record without what the rules read
        ({"session_id": "s-2", "prospect": {}, "base": {"prospect": {"email": "ana@example.com"}}}, by_email, True),
        ({"session_id": "s-2", "prospect": {}, "base": {"prospect": {"telefono": "300 555 0102"}}}, by_phone, True),
        ({"session_id": "s-2", "prospect": {}, "base": {"prospect": {}}}, by_email, False),
    ):
        assert matches({"tenant_id": "acme", **state}, selector, person) is expected
        assert not matches({"tenant_id": "other", **state}, selector, person)
