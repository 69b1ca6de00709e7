"""An extractor that finds nothing: records without a person's data, at no cost.

Used by ``NEXUS_EXTRACTOR=none``, with which a capacity test or a benchmark measures everything but the extraction.
"""

from __future__ import annotations

from collections.abc import Sequence

from nexus_stream.extraction.extractor import Findings, Turn

__all__ = ["NoExtraction"]


class NoExtraction:
    """`Extractor` that reads nothing."""

    name = "none"
    model = None
    prompt_version = None
    # Answers without waiting: see Enrichment._dispatch.
    is_immediate = True

    async def extract(self, turns: Sequence[Turn]) -> Findings:
        """Find nothing."""
        return Findings()

    async def close(self) -> None:
        """Nothing to release."""
