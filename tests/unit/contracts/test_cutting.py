"""Cutting is deterministic and idempotent, stays within the limits, and keeps what the user said."""

from __future__ import annotations

import json
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexus_stream.contracts.conversation import Conversation, decode, read
from nexus_stream.contracts.cutting import Cut, CutTurn, cut_turns, shortened
from nexus_stream.contracts.limits import Limits, enricher_limits
from nexus_stream.settings import Settings


class Said(NamedTuple):
    role: str
    content: str


PHONE = "Hola, me llamo Carlos Rojas y mi celular es 300 555 0102"
_TEXT = st.text("ab1 \n\N{GRINNING FACE}", min_size=1, max_size=40)
_CHAT = st.lists(st.builds(Said, st.sampled_from(["user", "assistant"]), _TEXT), min_size=1, max_size=12)
_LIMITS = st.tuples(st.integers(1, 12), st.integers(1, 50), st.none() | st.integers(12, 300))


def _bytes(turn: Said, content: str) -> int:
    return len(json.dumps(content, ensure_ascii=False).encode()) + 2


def _cut(chat: list[Said], limits: tuple[int, int, int | None]) -> tuple[list[Said], list[CutTurn], Cut]:
    max_turns, max_chars, max_bytes = limits
    kept, cut = cut_turns(chat, max_turns=max_turns, max_chars=max_chars, max_bytes=max_bytes, size_of=_bytes)
    return [Said(chat[turn.position].role, turn.content) for turn in kept], kept, cut


@given(_CHAT, _LIMITS)
def test_what_is_cut_fits_and_is_not_cut_again(chat: list[Said], limits: tuple[int, int, int | None]) -> None:
    max_turns, max_chars, max_bytes = limits
    once, kept, cut = _cut(chat, limits)
    assert 0 < len(once) <= max_turns
    assert all(len(turn.content) <= max_chars for turn in once)
    assert max_bytes is None or sum(_bytes(turn, turn.content) for turn in once) <= max_bytes
    positions = [turn.position for turn in kept]
    assert positions == sorted(set(positions))
    again, _, nothing = _cut(once, limits)
    assert again == once
    assert not nothing
    assert cut.turns == len(chat) - len(once)
    assert (cut.until > 0) is (cut.turns > 0)
    assert cut.until <= len(once)


@given(_CHAT, _LIMITS)
def test_no_turn_of_the_user_is_dropped_while_one_of_the_assistant_stays(
    chat: list[Said], limits: tuple[int, int, int | None]
) -> None:
    once, kept, _ = _cut(chat, limits)
    dropped = set(range(len(chat))) - {turn.position for turn in kept}
    if any(chat[position].role == "user" for position in dropped):
        assert all(turn.role == "user" for turn in once) or len(once) == 1
    for role in ("user", "assistant"):
        # Of each speaker the newest turns stay.
        mine = [position for position, turn in enumerate(chat) if turn.role == role]
        kept_of_role = [turn.position for turn in kept if chat[turn.position].role == role]
        assert kept_of_role == mine[len(mine) - len(kept_of_role) :]


@given(_CHAT, _LIMITS, _LIMITS)
def test_two_cuts_add_up(
    chat: list[Said], first: tuple[int, int, int | None], second: tuple[int, int, int | None]
) -> None:
    once, _, cut = _cut(chat, first)
    twice, kept, later = _cut(once, second)
    both = cut.joined(later, kept)
    assert both.turns == len(chat) - len(twice)
    assert both.characters == cut.characters + later.characters
    assert later.until <= both.until <= len(twice)


@given(st.text("ab1 ", min_size=10, max_size=30), st.text("ab1 ", max_size=30))
def test_an_answer_that_grows_past_the_limit_stays_equal(answer: str, more: str) -> None:
    assert shortened("assistant", answer + more, 10) == answer[:10]


def test_a_long_turn_of_the_user_keeps_its_beginning_and_its_end() -> None:
    content = "Soy Laura. " + "bla " * 3000 + PHONE
    cut = shortened("user", content, 8000)
    assert cut.startswith("Soy Laura. bla bla")
    assert cut.endswith(PHONE)
    assert "\n…\n" in cut


@pytest.mark.parametrize("limit", range(8, 200))
def test_no_cut_makes_a_number_or_an_address_that_nobody_wrote(limit: int) -> None:
    content = "ok " * 20 + "mi celular es 300 555 0102 o carlos@example.com, y el fijo (601) 555-0199 " + "ok " * 20
    beginning, gap, end = shortened("user", content, limit).partition("\n…\n")
    if not gap:
        return
    for part in (beginning, end):
        for number in ("300 555 0102", "(601) 555-0199"):
            digits = "".join(character for character in number if character.isdigit())
            said = "".join(character for character in part if character.isdigit())
            assert digits in said or not set(digits) & set(said.replace("3005550102", "").replace("6015550199", ""))
        assert ("@" not in part) or "carlos@example.com" in part


def test_the_oldest_turns_of_the_assistant_go_first() -> None:
    chat = [Said("assistant" if position % 2 else "user", str(position)) for position in range(10)]
    kept, cut = cut_turns(chat, max_turns=7, max_chars=100)
    assert [turn.content for turn in kept] == ["0", "2", "4", "6", "7", "8", "9"]
    # Turns are missing right before 2, 4 and 6, so within the first four.
    assert cut == Cut(turns=3, characters=0, until=4)


# In a conversation


def body(*turns: tuple[str, str], **metadata: object) -> bytes:
    messages = [{"role": role, "content": content} for role, content in turns]
    return json.dumps({"messages": messages, "sessionId": "s-1", "metadata": metadata}).encode()


def texts(conversation: Conversation) -> list[str]:
    return [turn.content for turn in conversation.messages]


def test_one_long_turn_refuses_nothing() -> None:
    """front_door.md, case 6."""
    conversation, noticed = read(
        body(("user", "Que planes hay?"), ("assistant", "x" * 9000), ("user", PHONE)), Limits()
    )
    assert texts(conversation) == ["Que planes hay?", "x" * 8000, PHONE]
    assert conversation.cut == Cut(characters=1000)
    assert noticed is not None
    assert noticed.cut == conversation.cut


def test_turn_201_refuses_nothing() -> None:
    turns = [("assistant" if position % 2 else "user", f"turn {position}") for position in range(201)]
    conversation = decode(body(*turns), Limits())
    assert len(conversation.messages) == 200
    assert "turn 1" not in texts(conversation)
    assert conversation.cut == Cut(turns=1, until=2)
    longer = decode(body(*turns, ("assistant", "turn 201"), ("user", "turn 202")), Limits())
    assert {"turn 1", "turn 3", "turn 5"}.isdisjoint(texts(longer))
    assert longer.cut == Cut(turns=3, until=4)


def test_a_producers_record_over_the_limit_is_cut_to_it() -> None:
    limits = enricher_limits(Settings())
    turns = [("assistant" if position % 2 else "user", f"{position} " + "ñ" * 1000) for position in range(100)]
    value = body(*turns)
    assert limits.body_bytes < len(value) <= limits.wire_bytes
    conversation = decode(value, limits)
    assert sum(len(text.encode()) for text in texts(conversation)) <= limits.body_bytes
    assert [text for role, text in turns if role == "user"] == [
        turn.content for turn in conversation.messages if turn.role == "user"
    ]
    assert conversation.messages[-1].content.startswith("99 ")


def test_a_record_that_the_gateway_cut_says_so_and_a_second_cut_adds_up() -> None:
    turns = [("user", "a"), ("user", "b"), ("assistant", "c"), ("user", "d")]
    value = body(*turns, cut={"turns": 5, "characters": 9, "until": 2})
    assert decode(value, Limits()).cut == Cut(turns=5, characters=9, until=2)
    assert decode(value, Limits(turns=3)).cut == Cut(turns=6, characters=9, until=3)


@pytest.mark.parametrize("said", ["x", 7, [], {"turns": -1}, {"turns": "x"}, {"until": 2**60}, None])
def test_a_cut_that_nobody_made_is_ignored(said: object) -> None:
    assert decode(body(("user", "a"), cut=said), Limits()).cut in (None, Cut())


def test_a_turn_that_begins_with_spaces_is_not_cut_to_them() -> None:
    assert shortened("assistant", " " * 50 + "hola", 20) == "hola"
    assert shortened("user", " " * 50 + "hola", 20).strip() == "hola"
