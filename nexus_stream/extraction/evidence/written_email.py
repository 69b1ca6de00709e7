"""Whether the user wrote or dictated a claimed e-mail address, in one turn or over neighbouring turns.

The address must be whole: a part of a longer one is another person's. A partial correction may change the one given.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import islice

from nexus_stream.extraction.evidence.spoken import (
    AT_WORDS,
    DOT_WORDS,
    Place,
    Token,
    Written,
    announces_correction,
    corrects_to,
    says_joined,
    short_turns,
    spells,
    tokens_of,
)
from nexus_stream.extraction.rules.addresses import addresses_in, normalise_email
from nexus_stream.extraction.rules.dictated_addresses import INTRODUCING
from nexus_stream.extraction.rules.email_corrections import is_about_address
from nexus_stream.extraction.rules.emails import find_email
from nexus_stream.extraction.rules.lexicon import COMMON_WORDS
from nexus_stream.extraction.text import UserTurn

__all__ = ["written_email"]


# Bounds against an attack on CPU time: an ordinary chat has a tenth of these.
_MAX_SIGNS = 40  # @ signs and words for it, the newest
_MAX_GIVEN = 8
_MAX_CORRECTIONS = 8
_MAX_LOCAL_TOKENS = 40
_MAX_DOMAIN_TOKENS = 24
_WINDOW_CHARS = 400

_AT = re.compile(r"@|\b(?:arroba|aroba|arrova|at)\b")
_MAIL = re.compile(r"\b(?:correo|e-?mail|mail)\b")
_ASKS_DOMAIN = re.compile(r"@|\barroba\b|\bdomini?o\b|\bdomain\b|\bfalta\b|\bfinal\b|\bcompleto\b")
_ADDRESS = re.compile(r"\w@\w")
_ADDRESS_SIGNS = frozenset("._%+-")
_STOPS = COMMON_WORDS | {"correo", "mail", "email", "electronico", "electronica", "direccion", "gmail", "hotmail"}
_MAX_FILLERS = 5
# Signs that may touch the start of an address.
_OPENS = frozenset("([{<\"':>|-")


def written_email(claimed: str, turns: Sequence[UserTurn]) -> Written | None:
    """Find the address in the user's turns. Return it in lower case; None if the user gave no such address."""
    address = normalise_email(claimed)
    if address is None:
        return None
    given: list[tuple[str, Place]] = []
    for turn in turns:
        for found, start, end in addresses_in(turn):
            given.append((found, Place(turn, start, end)))
            if found == address:
                return Written(address, (given[-1][1],))
    local, _, domain = address.partition("@")
    short = short_turns(turns)
    for tokens, at, places in islice(_dictations(short), _MAX_SIGNS):
        found_at = _stands(tokens, at, local, domain)
        if found_at is not None:
            return Written(address, tuple(_covered(places, found_at)))
    correcting = [turn for turn in short if announces_correction(turn)][-_MAX_CORRECTIONS:]
    for old, place in given[-_MAX_GIVEN:]:
        for turn in correcting:
            after = place.end if turn is place.turn else 0
            if (
                turn.index >= place.turn.index
                and corrects_to(old, address, turn, after)
                and is_about_address(turn, after, len(turn.folded), old)
            ):
                return Written(address, (place, Place(turn, 0, len(turn.text))))
    # The rules also read what no claim is needed for: corrections of several parts.
    best = find_email(short)
    if best is None or best.address != address:
        return None
    return Written(address, (Place(best.turn, best.start, best.end),))


_Sources = list[tuple[UserTurn, int, int]]  # turn, its first token, the token after its last


def _dictations(turns: Sequence[UserTurn]) -> Iterator[tuple[list[Token], int, _Sources]]:
    """The tokens around each @ of the user and its place in them, newest first; also joined over two turns."""
    for position in range(len(turns) - 1, -1, -1):
        turn = turns[position]
        for sign in islice(_AT.finditer(turn.folded), _MAX_SIGNS):
            before = tokens_of(turn.folded, max(0, sign.start() - _WINDOW_CHARS), sign.start())
            tokens = [*before, *tokens_of(turn.folded, sign.start(), sign.end() + _WINDOW_CHARS)]
            yield tokens, len(before), [(turn, 0, len(tokens))]
        if position:
            yield from _joined(turns[position - 1], turn)


def _joined(first: UserTurn, second: UserTurn) -> Iterator[tuple[list[Token], int, _Sources]]:
    """The end of a turn and the turn after it, if the second may go on where the first stopped in an address."""
    before = tokens_of(first.folded, max(0, len(first.folded) - _WINDOW_CHARS))
    after = tokens_of(second.folded, 0, _WINDOW_CHARS)
    # "Ah sí, .com": the first words may only answer.
    begin = next((at for at in range(min(len(after), _MAX_FILLERS)) if _goes_on(after, at)), None)
    if begin is None:
        begin = next((at for at in range(len(after)) if after[at].text not in _STOPS | {","}), len(after))
    after = after[begin:]
    if not before or not after or before[-1].text == "\n":
        return
    between: list[Token] = []
    if not _goes_on(after, 0) and before[-1].text not in ("@", ".", *AT_WORDS, *DOT_WORDS):
        asked_between = second.index > first.index + 1 and _ASKS_DOMAIN.search(second.asked)
        if (
            not asked_between
            or _ADDRESS.search(second.asked)
            or _AT.search(first.folded, max(0, len(first.folded) - _WINDOW_CHARS))
        ):
            return
        between = [Token("@", -1, -1)]  # asked for what follows the @, people leave it out
    # Not side by side, so that no word continues over the gap.
    gap = len(first.folded) + 1
    tokens = [*before, *between, *(Token(token.text, token.start + gap, token.end + gap) for token in after)]
    signs = [at for at, token in enumerate(tokens) if token.text == "@" or token.text in AT_WORDS]
    for at in signs[-1:]:
        yield tokens, at, [(first, 0, len(before)), (second, len(before) + len(between), len(tokens))]


def _goes_on(tokens: list[Token], at: int) -> bool:
    """Whether an @ or a dot before a word stands here."""
    text = tokens[at].text
    is_dot = text == "." and at + 1 < len(tokens) and tokens[at + 1].start == tokens[at].end
    return is_dot or text == "@" or text in AT_WORDS | DOT_WORDS


def _stands(tokens: list[Token], at: int, local: str, domain: str) -> tuple[int, int] | None:
    """The tokens around the sign at ``at`` that spell the whole address; None if they spell another."""
    if not _means_at(tokens, at):
        return None
    end = _domain_end(tokens, at + 1, domain)
    if end is None:
        return None
    joined = says_joined(" ".join(token.text for token in tokens[max(0, at - _MAX_LOCAL_TOKENS) :]))
    start = _local_start(tokens, at, local, joined=joined)
    return (start, end) if start is not None else None


def _means_at(tokens: list[Token], at: int) -> bool:
    if tokens[at].text != "at":
        return True
    before = tokens[at - 1].text if at else ""
    # "We work at example.com" names a place, unless the words before speak of mail.
    return before in "([" or any(_MAIL.fullmatch(token.text) for token in tokens[max(0, at - 12) : at])


def _local_start(tokens: list[Token], at: int, local: str, *, joined: bool) -> int | None:
    for start in range(at - 1, max(-1, at - 1 - _MAX_LOCAL_TOKENS), -1):
        if tokens[start].text == "\n":
            return None
        if spells(tokens[start:at], local, joined=joined) and _begins(tokens, start):
            return start
    return None


def _begins(tokens: list[Token], start: int) -> bool:
    """Whether an address can begin here: nothing before it belongs to it."""
    if start == 0:
        return True
    before, first = tokens[start - 1], tokens[start]
    if before.end == first.start:
        return before.text in _OPENS
    if before.text in _ADDRESS_SIGNS - {".", "-"} or before.text in DOT_WORDS | {"guion", "bajo", "baja", "hifen"}:
        return False
    # Another word beside it may belong to it: "dulces la rosa arroba". This is not guessed.
    return not before.text.isalnum() or before.text in INTRODUCING


def _domain_end(tokens: list[Token], first: int, domain: str) -> int | None:
    for end in range(first + 1, min(len(tokens), first + _MAX_DOMAIN_TOKENS) + 1):
        if tokens[end - 1].text == "\n":
            return None
        if spells(tokens[first:end], domain) and _ends(tokens, end):
            return end
    return None


def _ends(tokens: list[Token], end: int) -> bool:
    if end >= len(tokens):
        return True
    after, last = tokens[end], tokens[end - 1]
    following = tokens[end + 1] if end + 1 < len(tokens) else None
    if after.start == last.end and (after.text.isalnum() or after.text in "@_-"):
        return False
    goes_on = after.text in DOT_WORDS or (after.text == "." and after.start == last.end)
    return not (goes_on and following is not None and following.text.isalnum() and len(following.text) <= 3)


def _covered(sources: _Sources, found: tuple[int, int]) -> Iterator[Place]:
    for turn, first, end in sources:
        if first < found[1] and found[0] < end:
            yield Place(turn, 0, len(turn.text))
