"""The extractor that reads nothing: for a user who did not consent, and for measurements.

The enricher uses it for a snapshot with ``consent: false``, unless ``NEXUS_CONSENT_RESPECTED=false``. The record then
has the label ``none`` and no personal field of that snapshot. Values that the user gave earlier, with consent, stay
until they are erased. With ``NEXUS_EXTRACTOR=none`` every snapshot uses it, so that a benchmark measures everything
except the extraction.
"""

from __future__ import annotations

from collections.abc import Sequence

from nexus_stream.extraction.extractor import Findings, MadeBy, Turn

__all__ = ["NoExtraction"]


class NoExtraction:
    """An `Extractor` that finds nothing, at no cost."""

    labels = MadeBy("none")
    # Answers without waiting: see Enrichment._dispatch.
    is_immediate = True

    async def extract(self, turns: Sequence[Turn], region: str | None = None) -> Findings:
        """Return empty findings."""
        return Findings(made_by=self.labels)

    async def close(self) -> None:
        """Do nothing: there is nothing to release."""
