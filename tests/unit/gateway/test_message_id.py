"""Message ids look like the existing site's."""

from collections import Counter

from nexus_stream.gateway.message_id import ALPHABET, message_id


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
    # Six standard deviations: a biased choice (a modulo of another alphabet size, say) is off by far more.
    assert all(abs(counts[character] - expected) < 6 * expected**0.5 for character in ALPHABET)
