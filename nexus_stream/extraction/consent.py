"""What stands in for an extractor when the user did not consent: nothing is read, nothing is sent.

From: the enricher, for a snapshot with ``consent: false``, unless ``NEXUS_CONSENT_RESPECTED=false``. To: a minimal
record with no personal field of this snapshot, labelled ``none``. What the session gave earlier, with consent, stays
until it is erased.
"""

from __future__ import annotations

from collections.abc import Sequence

from nexus_stream.extraction.extractor import Findings, MadeBy, Turn

__all__ = ["NOT_READ_NAME", "NotRead"]

NOT_READ_NAME = "none"


class NotRead:
    """An `Extractor` that does not look."""

    @property
    def name(self) -> str:
        """The label in every record."""
        return NOT_READ_NAME

    @property
    def model(self) -> str | None:
        """No model is asked."""
        return None

    @property
    def prompt_version(self) -> str | None:
        """There is no prompt."""
        return None

    async def extract(self, turns: Sequence[Turn]) -> Findings:
        """Find nothing."""
        return Findings(made_by=MadeBy.of(self))

    async def close(self) -> None:
        """There is nothing to release."""
