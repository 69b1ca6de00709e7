"""Find the user's own e-mail address; one that is spread over two turns is joined, a corrected one is changed."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from nexus_stream.extraction.rules.addresses import addresses_in
from nexus_stream.extraction.rules.email_corrections import corrected_address
from nexus_stream.extraction.rules.ownership import (
    asks_for_others,
    corrects,
    denies,
    is_about_site,
    is_foreign,
    is_given_up,
    is_offered,
    is_secondary,
)
from nexus_stream.extraction.text import UserTurn

__all__ = ["Email", "find_email", "joined_address"]

# Characters of a turn that gives the rest of an address.
_MAX_REST = 160
# The end of a turn, and the start of the next, that together are an address.
_TAIL = re.compile(r"(?:^|[\s:,(])(?P<tail>[a-z0-9][a-z0-9._+-]{0,63}(?:\s?@[a-z0-9.-]{0,100})?)\W{0,3}$")
_HEAD = re.compile(
    r"\W{0,3}?(?:(?:y|e|es|ah|si|sim|ok|es decir|con|com|luego|despues|perdon|termina en|seria|yes|and)\b\W{1,2}){0,4}"
    r"(?P<head>(?:@|arroba |punto |ponto |\.)\s?[a-z0-9][a-z0-9. -]{0,100})"
)
_DOMAIN_ONLY = re.compile(r"\W{0,3}(?P<head>[a-z0-9-]{1,63}(?:\.[a-z0-9-]{1,63}){1,3})\W{0,3}(?:$|\s)")
_ASKS_DOMAIN = re.compile(r"\barroba\b|@|\bdomini?o\b|\bdomain\b|\bdespues de\b|\bdepois d[oa]\b")
_WHOLE = re.compile(r"\w@\w")
_MAIL = re.compile(r"\b(?:correo|e-?mail|mail)\b|arroba|@")


@dataclass(frozen=True, slots=True)
class Email:
    """An address of the user, and its position."""

    address: str
    turn: UserTurn
    start: int
    end: int
    correction: bool = False
    secondary: bool = False
    # The user gave it as their own address.
    offered: bool = True


def find_email(turns: Sequence[UserTurn]) -> Email | None:
    """Find the address for contacting the user; ``correction`` is set if it replaced another one."""
    best: Email | None = None
    replaced = is_doubted = False
    before: UserTurn | None = None
    others: set[str] = set()
    for turn in turns:
        found = list(_emails_of(turn, others))
        if not found and before is not None:
            joined = joined_address(before, turn)
            found = [Email(joined[0], turn, joined[1], joined[2])] if joined is not None else []
        if best is not None and denies(turn, mail=True):
            others.add(best.address)
            best = None
            found = [email for email in found if email.address not in others]
        if best is not None and not found:
            corrected = corrected_address(turn, best.address)
            is_doubted = is_doubted or (corrected is not None and corrected.address is None)
            if corrected is not None and corrected.address is not None:
                best = replace(best, address=corrected.address, turn=turn, start=corrected.start, end=corrected.end)
                replaced = True
        for email in found:
            if best is None:
                best = email
            elif email.address != best.address and (is_doubted or _wins(email, best)):
                best, replaced = email, email.correction or is_doubted
                is_doubted = False
        before = turn
    return replace(best, correction=replaced) if best is not None else None


def _emails_of(turn: UserTurn, others: set[str]) -> list[Email]:
    """The user's addresses in a turn; addresses of somebody else are added to ``others``."""
    emails: list[Email] = []
    previous_end = 0
    for address, start, end in addresses_in(turn):
        corrected = corrects(turn.folded, start, previous_end)
        secondary = is_secondary(turn.folded, start, end, previous_end)
        previous_end = end
        if (
            is_foreign(turn, start, end)
            or is_given_up(turn.folded, start, end)
            or asks_for_others(turn)
            or is_about_site(turn, start, end, address)
        ):
            others.add(address)
        elif address not in others:
            offered = is_offered(turn, start, end)
            emails.append(Email(address, turn, start, end, corrected, secondary, offered))
    return emails


def joined_address(before: UserTurn, turn: UserTurn) -> tuple[str, int, int] | None:
    """Join the end of a turn and the start of the next one: "ana.lopez", then "@example.com".

    Returns:
        The address, and the span of its second part in ``turn``; None if they are no address.
    """
    if len(turn.folded) > _MAX_REST or "." not in before.folded + turn.folded:
        return None
    if not (_MAIL.search(before.asked) or _MAIL.search(before.folded) or _MAIL.search(turn.asked)):
        return None
    tail = _TAIL.search(before.folded, max(0, len(before.folded) - 180))
    if tail is None:
        return None
    text = before.folded.rstrip()
    # An assistant that names an address does not ask for the rest of one.
    is_asked = _ASKS_DOMAIN.search(turn.asked) is not None and _WHOLE.search(turn.asked) is None
    open_end = is_asked or text.endswith(("@", ".", "_", "-", "arroba", "punto", "ponto"))
    head = _HEAD.match(turn.folded) or (_DOMAIN_ONLY.match(turn.folded) if open_end else None)
    if head is None or any(True for _ in addresses_in(before)):
        return None
    first, second = tail.group("tail"), head.group("head")
    if text[-1:] in "._-@" and not first.endswith(text[-1:]):
        first += text[-1:]
    if not open_end or "@" in first or _MAIL.search(second):
        sign = ""
    else:
        sign = "" if first.endswith(("arroba", ".", "_", "-")) else "@"
    whole = UserTurn(turn.index, f"{first} {second}", f"{first} {second}")
    glued = UserTurn(turn.index, f"{first}{sign}{second}", f"{first}{sign}{second}")
    for joined in (glued, whole):
        found = next(addresses_in(joined), None)
        if found is not None and found[1] == 0:
            return found[0], head.start("head"), head.end("head")
    return None


def _wins(email: Email, best: Email) -> bool:
    if email.correction and not email.secondary:
        return True
    if email.secondary != best.secondary:
        return best.secondary and (email.offered or email.turn is best.turn)
    return email.offered and email.turn.index > best.turn.index
