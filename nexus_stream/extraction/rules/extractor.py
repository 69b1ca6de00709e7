"""``offline-rules-v1``: the extractor that needs no key and no network, with rules that a person can read.

The findings have the span of every piece of evidence. The rules prefer an empty field to
an invented value. Their quality differs from Claude's, so every record has the extractor's name.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

from nexus_stream.contracts.prospect import Signal, SignalName
from nexus_stream.errors import Reason
from nexus_stream.extraction.extractor import RULES_NAME, Findings, MadeBy, ReadByRules, Turn, Usage
from nexus_stream.extraction.grounding import OBJECTION_SIGNALS
from nexus_stream.extraction.rules.countries import regions_of
from nexus_stream.extraction.rules.doubts import is_doubtful_email, is_doubtful_phone
from nexus_stream.extraction.rules.emails import find_email
from nexus_stream.extraction.rules.intent import find_intent, find_lack_of_interest
from nexus_stream.extraction.rules.names import find_name
from nexus_stream.extraction.rules.number_words import has_numbers
from nexus_stream.extraction.rules.objections import find_objections
from nexus_stream.extraction.rules.occupations import find_archetype, find_occupation, find_occupations
from nexus_stream.extraction.rules.phones import find_phone
from nexus_stream.extraction.text import UserTurn, user_turns

__all__ = ["MAX_READ_CHARS", "NAME", "OfflineRules", "find"]

NAME = f"{RULES_NAME}-v1"
# The newest user turns that fit in this are read. A long chat has a tenth of it; a chat as large as the limit of a body
# would block everything else. Values from the session's earlier snapshots stay in its record.
MAX_READ_CHARS = 65_536


class OfflineRules:
    """The rules as an `Extractor`.

    Args:
        default_region: Country (ISO 3166, two letters) of phone numbers without a country code, if neither the chat nor
            its site or tenant has another.
    """

    labels = MadeBy(NAME)

    def __init__(self, default_region: str = "CO") -> None:
        self._default_region = default_region

    async def extract(self, turns: Sequence[Turn], region: str | None = None) -> Findings:
        """Read the turns, oldest first. It runs without awaiting: a chat takes about a millisecond."""
        return find(turns, default_region=region or self._default_region)

    async def read_instead(self, turns: Sequence[Turn], reason: Reason | None, region: str | None = None) -> Findings:
        """See `HasSubstitute`."""
        return replace(await self.extract(turns, region), made_by=self.labels, instead_of=reason)

    async def close(self) -> None:
        """Do nothing: there is nothing to release."""


def _signal(name: SignalName, turn: UserTurn, start: int, end: int) -> Signal:
    first, last = turn.span(start, end)
    return Signal(name=name, turn=turn.index, start=first, end=last)


def _first_read(turns: Sequence[Turn]) -> int:
    left = MAX_READ_CHARS
    first = len(turns)
    for index in range(len(turns) - 1, -1, -1):
        if turns[index].role == "user":
            left -= len(turns[index].content)
            if left < 0 and first < len(turns):
                break
            first = index
    return first


def find(turns: Sequence[Turn], *, default_region: str) -> Findings:
    """Read a conversation with the rules."""
    started = time.perf_counter()
    prepared = user_turns(turns, first=_first_read(turns))
    signals: list[Signal] = []

    name = find_name(prepared)
    if name is not None:
        signals.append(_signal(SignalName.NOMBRE, name.turn, name.start, name.end))
        if name.correction:
            signals.append(_signal(SignalName.CORRECCION_NOMBRE, name.turn, name.start, name.end))
    email = find_email(prepared)
    if email is not None:
        signals.append(_signal(SignalName.EMAIL, email.turn, email.start, email.end))
        if email.correction:
            signals.append(_signal(SignalName.CORRECCION_EMAIL, email.turn, email.start, email.end))
    doubtful: list[str] = []
    if email is not None and is_doubtful_email(email.address, email.turn.index, prepared):
        doubtful.append("email")
    phone = None
    if any(has_numbers(turn.folded) for turn in prepared):
        regions = regions_of(prepared, default_region)
        phone = find_phone(prepared, regions)
        if phone is not None and is_doubtful_phone(phone.e164, phone.turn.index, prepared, regions):
            doubtful.append("telefono")
    if phone is not None:
        signals.append(_signal(SignalName.TELEFONO, phone.turn, phone.start, phone.end))
        if phone.correction:
            signals.append(_signal(SignalName.CORRECCION_TELEFONO, phone.turn, phone.start, phone.end))

    occupations = find_occupations(prepared, (name.turn.index, name.end) if name is not None else None)
    occupation = find_occupation(occupations)
    if occupation is not None:
        signals.append(_signal(SignalName.OCUPACION, occupation.turn, occupation.start, occupation.end))
    archetype = find_archetype(prepared, occupations)
    if archetype is not None:
        signals.append(_signal(SignalName.ARQUETIPO, *archetype[1:]))

    objections = find_objections(prepared)
    signals += [_signal(OBJECTION_SIGNALS[one.kind], one.turn, one.start, one.end) for one in objections]
    intent = find_intent(prepared)
    if intent is not None:
        signals.append(_signal(SignalName.INTENCION, *intent))
    lack = find_lack_of_interest(prepared)
    if lack is not None:
        signals.append(_signal(SignalName.DESINTERES, *lack))

    return ReadByRules(
        nombre=name.text if name is not None else None,
        email=email.address if email is not None else None,
        telefono=phone.e164 if phone is not None else None,
        ocupacion=occupation.phrase if occupation is not None else None,
        objeciones=tuple(one.kind for one in objections),
        arquetipo=archetype[0] if archetype is not None else None,
        signals=tuple(signals),
        usage=Usage(latency_ms=(time.perf_counter() - started) * 1000),
        doubtful_fields=tuple(doubtful),
    )
