"""Tell contacts that the user corrected later, in words that cannot be read."""

from __future__ import annotations

from collections.abc import Sequence

from nexus_stream.extraction.rules.countries import Regions
from nexus_stream.extraction.rules.email_corrections import corrected_address
from nexus_stream.extraction.rules.phone_corrections import corrected_number
from nexus_stream.extraction.text import UserTurn

__all__ = ["is_doubtful_email", "is_doubtful_phone"]


def is_doubtful_email(address: str, last: int, turns: Sequence[UserTurn]) -> bool:
    """Whether a turn after the ``last`` that has the address corrects it unreadably."""
    found = (corrected_address(turn, address) for turn in turns if turn.index > last)
    return any(corrected is not None and corrected.address is None for corrected in found)


def is_doubtful_phone(e164: str, last: int, turns: Sequence[UserTurn], regions: Regions) -> bool:
    """Whether a turn after the ``last`` that has the number corrects it unreadably."""
    found = (corrected_number(turn, e164, regions) for turn in turns if turn.index > last)
    return any(corrected is not None and corrected.e164 is None for corrected in found)
