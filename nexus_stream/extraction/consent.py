"""The extractor that reads nothing: for a user who did not consent, and for measurements.

The enricher uses it for a snapshot with ``consent: false``, unless ``NEXUS_CONSENT_RESPECTED=false``. The record then
has no personal field of that snapshot and the label ``none``. Values that the session gave earlier, with consent, stay
until they are erased. ``NEXUS_EXTRACTOR=none`` uses it for every snapshot, so that a benchmark measures everything but
the extraction.
"""

from __future__ import annotations

from collections.abc import Sequence

from nexus_stream.extraction.extractor import Findings, MadeBy, Turn

__all__ = ["NoExtraction"]


class NoExtraction:
    """`Extractor` that finds nothing, at no cost."""

    name = "none"
    model = None
    prompt_version = None
    # Answers without waiting: see Enrichment._dispatch.
    is_immediate = True

    async def extract(self, turns: Sequence[Turn]) -> Findings:
        """Find nothing."""
        return Findings(made_by=MadeBy.of(self))

    async def close(self) -> None:
        """Release nothing."""
