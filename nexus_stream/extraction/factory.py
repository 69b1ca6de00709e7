"""Create the extractor that the settings choose: Claude if a key is set, else the offline rules.

Claude's modules, and with them the SDK, load only when they are used.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from nexus_stream.extraction.consent import NoExtraction
from nexus_stream.extraction.extractor import Extractor
from nexus_stream.extraction.observer import ExtractionObserver
from nexus_stream.settings import Settings

if TYPE_CHECKING:
    from nexus_stream.extraction.rules.extractor import OfflineRules

__all__ = ["create_extractor"]

_HOUR_MINUTES = 60


def create_extractor(
    settings: Settings, *, budget_file: Path | None = None, observer: ExtractionObserver | None = None
) -> Extractor:
    """Create the configured extractor, wrapped in cache and fallback. The caller closes it.

    Args:
        settings: ``extractor``, ``claude_*``, ``budget_*``, ``cache_*`` and ``redis_url``.
        budget_file: Keeps the spending across a restart; one file a worker.
        observer: Receives the metrics of calls to Claude.
    """
    if settings.extractor == "none":
        return NoExtraction()
    if not settings.use_claude:
        return _offline_rules(settings)
    from nexus_stream.extraction.cache import FindingsCache, MemoryCache, RedisCache
    from nexus_stream.extraction.cached import CachedExtractor
    from nexus_stream.extraction.claude.budget import Budget
    from nexus_stream.extraction.claude.extractor import ClaudeExtractor
    from nexus_stream.extraction.fallback import Fallback

    budget = Budget(
        usd_per_hour=settings.budget_usd_per_hour,
        usd_per_day=settings.budget_usd_per_day,
        share=settings.claude_share,
        path=budget_file,
        counts_killed=True,
    )
    cache: FindingsCache
    if settings.redis_url is not None:
        cache = RedisCache(
            settings.redis_url.get_secret_value(),
            ttl_seconds=settings.cache_ttl_seconds,
            timeout_seconds=settings.cache_timeout_seconds,
        )
    else:
        cache = MemoryCache(max_entries=settings.cache_max_entries, ttl_seconds=settings.cache_ttl_seconds)
    # The fallback is outermost: a cached answer from Claude is better than the rules', and theirs must not be cached.
    cached = CachedExtractor(ClaudeExtractor(settings, budget=budget, observer=observer), cache, observer)
    if observer is not None:
        for minutes, cap_usd in budget.caps_usd.items():
            observer.has_budget(
                "hour" if minutes == _HOUR_MINUTES else "day", cap_usd, partial(budget.spent_usd, minutes)
            )
    return Fallback(cached, _offline_rules(settings), at_cap=settings.budget_fallback == "offline")


def _offline_rules(settings: Settings) -> OfflineRules:
    from nexus_stream.extraction.rules.extractor import OfflineRules

    return OfflineRules(settings.default_region)
