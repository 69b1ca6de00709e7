"""Message ids look like the existing site's."""

from collections import Counter

from nexus_stream.contracts.message_id import ALPHABET, is_ours, message_id


def test_an_id_has_21_characters_of_the_url_safe_alphabet() -> None:
    assert len(set(ALPHABET)) == 64
    for _ in range(500):
        id_ = message_id()
        assert len(id_) == 21
        assert set(id_) <= set(ALPHABET)


def test_ids_differ_and_use_every_character_alike() -> None:
    ids = [message_id() for _ in range(5000)]
    assert len(set(ids)) == len(ids)
    counts = Counter("".join(ids))
    expected = 5000 * 21 / 64
    # Six standard deviations: a biased choice (for example a modulo of another alphabet size) differs far more.
    assert all(abs(counts[character] - expected) < 6 * expected**0.5 for character in ALPHABET)


def test_only_a_gateways_id_is_recognised() -> None:
    id_ = message_id()
    assert is_ours(id_.encode())
    for position in range(21):
        other = "A" if id_[position] != "A" else "B"
        assert not is_ours(f"{id_[:position]}{other}{id_[position + 1 :]}".encode())
    for wrong in (b"", b"a" * 21, b"\xff" * 21, id_.encode()[:-1], id_.encode() + b"a"):
        assert not is_ours(wrong)
