"""Which identity a visitor claims, and what proves it."""

from __future__ import annotations

import hashlib
import hmac
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexus_stream.contracts.plain_form import MAX_IDENTITY_CHARS
from nexus_stream.gateway.identity import ClaimedIdentity, take_identity

SECRET, OLDER = b"a-secret-of-the-sites-server", b"the-secret-before-it"


def proof(value: str, secret: bytes = SECRET) -> str:
    return hmac.new(secret, value.encode(), hashlib.sha256).hexdigest()


def taken(body: dict[str, Any], *secrets: bytes) -> ClaimedIdentity | None:
    return take_identity(body, secrets or (SECRET,))


def test_a_known_answer() -> None:
    """Made with `printf %s user-42 | openssl dgst -sha256 -hmac a-secret-of-the-sites-server`."""
    expected = "379879447a74efaa8907c39b9c51f2f5c65e7f8f3facee63f2e4dcb6ca8c90d9"
    assert proof("user-42") == expected
    assert taken({"identity": "user-42", "identityHash": expected}) == ClaimedIdentity("user-42", "proven")


@pytest.mark.parametrize("value", ["user-42", "ana@example.com", "José Núñez", " 42 ", "a:b", "日本"])
def test_the_right_hash_proves(value: str) -> None:
    for sent in (proof(value), proof(value).upper(), f" {proof(value)}\n"):
        assert taken({"identity": value, "identityHash": sent}) == ClaimedIdentity(value, "proven")
        assert taken({"metadata": {"identity": value, "identityHash": sent}}) == ClaimedIdentity(value, "proven")


def test_a_number_is_taken_as_its_text() -> None:
    assert taken({"identity": 42, "identityHash": proof("42")}) == ClaimedIdentity("42", "proven")


def test_any_of_the_secrets_proves() -> None:
    body = {"identity": "u", "identityHash": proof("u", OLDER)}
    assert taken(dict(body), SECRET, OLDER) == ClaimedIdentity("u", "proven")
    assert taken(dict(body), OLDER, SECRET) == ClaimedIdentity("u", "proven")
    assert taken(dict(body), SECRET) == ClaimedIdentity("u", "wrong_hash")


@pytest.mark.parametrize(
    "sent",
    [
        proof("another"),
        proof("u")[:-1],
        proof("u") + "0",
        hashlib.sha256(b"u").hexdigest(),
        hmac.new(b"u", SECRET, hashlib.sha256).hexdigest(),
        "ñ",
        "\udc80".encode("utf-8", "replace").decode(),
        "x" * 100_000,
        7,
    ],
    ids=range(9),
)
def test_a_wrong_hash_proves_nothing_and_keeps_the_claim(sent: object) -> None:
    assert taken({"identity": "u", "identityHash": sent}) == ClaimedIdentity("u", "wrong_hash")


@pytest.mark.parametrize("sent", [None, "", "  ", True, [], {}])
def test_without_a_hash_it_is_only_a_claim(sent: object) -> None:
    found = taken({"identity": "u", "identityHash": sent})
    assert found == ClaimedIdentity("u", "claimed")
    assert found.metadata == {"identity": "u", "identityProven": False}


def test_without_a_secret_nothing_can_be_proven() -> None:
    assert take_identity({"identity": "u", "identityHash": proof("u", b"")}, ()) == ClaimedIdentity("u", "claimed")


@pytest.mark.parametrize(
    "claim", [None, "", " ", True, 1.5, [], {}, ["u"], "x" * (MAX_IDENTITY_CHARS + 1), "a\x00b", "a\nb"]
)
def test_what_is_no_id_is_no_claim(claim: object) -> None:
    body = {"identity": claim, "identityHash": proof("u"), "identityProven": True, "metadata": {"identityProven": True}}
    assert taken(body) is None
    assert body == {"metadata": {}}


def test_the_body_is_read_before_its_metadata() -> None:
    body = {"identity": "top", "identityHash": proof("top"), "metadata": {"identity": "inner", "identityHash": "0"}}
    assert taken(body) == ClaimedIdentity("top", "proven")


def test_a_claim_does_not_show_itself_in_the_metadata_of_the_caller() -> None:
    metadata = {"identity": "u", "url": "https://www.example.com/"}
    body = {"metadata": metadata}
    taken(body)
    assert body == {"metadata": {"url": "https://www.example.com/"}}
    assert metadata["identity"] == "u"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)


@given(claim=JSON, sent=JSON, metadata=JSON)
def test_nothing_but_a_right_hash_proves(claim: Any, sent: Any, metadata: Any) -> None:
    body = {"identity": claim, "identityHash": sent, "identityProven": True, "metadata": metadata}
    found = take_identity(body, (SECRET,))
    assert found is None or found.outcome != "proven"
    assert not {"identity", "identityHash", "identityProven"} & body.keys()
