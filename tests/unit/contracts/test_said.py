"""The user's words: what around them may change, and what may not."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from nexus_stream.contracts.conversation import Message
from nexus_stream.contracts.said import fits, said_steps, words_hashes

Turns = list[tuple[str, str]]
_ROLES = st.sampled_from(["user", "assistant"])
_TURNS = st.lists(st.tuples(_ROLES, st.text("ab \n", min_size=1, max_size=6)), max_size=12)


def said(turns: Turns, *, answers_known_from: int = 0) -> tuple[str, ...]:
    messages = [Message.model_construct(role=role, content=content) for role, content in turns]
    return said_steps(messages, answers_known_from=answers_known_from)


CHAT: Turns = [("assistant", "Hola"), ("user", "quiero"), ("assistant", "¿su celular?"), ("user", "300 555 0102")]


def test_a_greeting_the_last_answer_and_white_space_change_nothing() -> None:
    assert said(CHAT) == said(CHAT[1:]) == said([*CHAT, ("assistant", "Gracias")])
    assert said([("assistant", "Buenas noches"), *CHAT[1:]]) == said(CHAT)
    assert said([(role, f"  {content.replace(' ', chr(10))} ") for role, content in CHAT]) == said(CHAT)
    # An answer that the site keeps as two turns.
    assert said([*CHAT[:2], ("assistant", "¿su"), ("assistant", "celular?"), CHAT[3]]) == said(CHAT)


def test_what_the_user_says_and_what_the_user_answers_count() -> None:
    assert said([*CHAT[:3], ("user", "300 555 0103")]) != said(CHAT)
    assert said([*CHAT[:2], ("assistant", "¿su fijo?"), CHAT[3]]) != said(CHAT)
    assert said([*CHAT[:2], CHAT[3]]) != said(CHAT)
    # Two turns are not one.
    assert said([("user", "a"), ("user", "b")]) != said([("user", "a b")])


def test_answers_that_a_cut_dropped_fit_all() -> None:
    cut = said([CHAT[1], CHAT[3]], answers_known_from=2)
    assert cut != said(CHAT)
    assert all(map(fits, cut, said(CHAT)))
    assert not fits(said([("user", "a")])[0], said([("user", "b")])[0])
    # A window that begins with the second turn does not know what it answered.
    assert fits(said(CHAT[3:])[0], said(CHAT)[1])


def test_a_hash_stands_for_the_words_up_to_there_and_the_consent() -> None:
    steps = said([("user", "a"), ("assistant", "x"), ("user", "b")])
    assert words_hashes(steps, None)[0] == words_hashes(steps[:1], None)[0]
    assert words_hashes(steps, None)[1] == words_hashes(said([("user", "a"), ("user", "b")]), None)[1]
    assert words_hashes(steps, None)[-1] != words_hashes(steps, False)[-1]
    assert words_hashes((), True) == []


@given(_TURNS, st.text("ab ", max_size=5), st.text("ab ", max_size=5))
def test_every_user_turn_is_one_step_whatever_stands_around(turns: Turns, greeting: str, answer: str) -> None:
    steps = said(turns)
    assert len(steps) == sum(role == "user" for role, _ in turns)
    assert said([*turns, ("assistant", answer)]) == steps
    assert said([("assistant", greeting), *turns]) == steps
    assert all(map(fits, said(turns, answers_known_from=len(turns)), steps))


def test_half_an_emoji_in_a_turn_can_be_hashed() -> None:
    """JavaScript strings may end in a lone surrogate."""
    assert len(said([("user", "\ud83d")])) == 1
