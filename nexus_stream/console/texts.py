"""Every sentence of the pages, by key; another language is another mapping with the same keys.

From: nothing. To: templates and pages.py, as ``t("key", name=value)``. Values of the data itself (caliente, price) are
shown as they are stored.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

__all__ = ["ENGLISH", "LANGUAGES", "Translate", "translator"]

Translate = Callable[..., str]

ENGLISH: Mapping[str, str] = MappingProxyType(
    {
        "product": "nexus-stream",
        "console": "console",
        "skip": "Skip to content",
        "none": "–",
        # Freshness
        "fresh.live": "Live",
        "fresh.behind": "Catching up",
        "fresh.lost": "Not following",
        "fresh.lag": "{count} records behind",
        "fresh.lag_one": "1 record behind",
        "fresh.caught_up": "caught up {ago}",
        "fresh.never": "never caught up yet",
        "fresh.refresh": "Refresh",
        "problem.starting": "connecting to the broker",
        "problem.broker_unreachable": "the broker does not answer; what you see is the last known state",
        "problem.topic_missing": "the sessions changelog does not exist yet: run “nexus topics apply”",
        "problem.store_failed": "the local index cannot be written (disk full?); what you see may be old",
        # Time
        "ago.now": "just now",
        "ago.seconds": "{n} s ago",
        "ago.minutes": "{n} min ago",
        "ago.hours": "{n} h ago",
        "ago.days": "{n} d ago",
        # Sessions list
        "sessions.title": "Sessions",
        "sessions.all": "All",
        "sessions.search": "Search",
        "sessions.search_hint": "Name, e-mail, phone, fingerprint or session",
        "sessions.momento": "Momento",
        "sessions.any": "any",
        "sessions.clear": "Clear",
        "sessions.next": "Older sessions",
        "sessions.first": "Newest sessions",
        "sessions.empty": "No sessions yet",
        "sessions.empty_hint": "They appear here as soon as the enricher has handled the first conversation.",
        "sessions.no_match": "No session matches",
        "sessions.no_match_hint": "Try fewer letters, or clear the filters.",
        "sessions.no_more": "No older sessions",
        "column.seen": "Last seen",
        "column.status": "Status",
        "column.prospect": "Prospect",
        "column.contact": "Contact",
        "column.interest": "Interest",
        "column.objections": "Objections",
        "column.turns": "Turns",
        "column.session": "Session",
        "prospect.unnamed": "no name yet",
        "status.enriched": "enriched",
        "status.waiting": "waiting",
        "status.dead": "dead",
        "status.erased": "erased",
        "status.unreadable": "unreadable",
        # One session
        "session.back": "All sessions",
        "session.prospect": "Prospect",
        "session.extraction": "Extraction",
        "session.place": "Where it is",
        "session.counters": "Counters",
        "session.evidence": "Evidence",
        "session.evidence_hint": "Where in the user’s own turns each fact stands; the text itself is not kept here.",
        "session.evidence_none": "No evidence was found in this conversation.",
        "session.state": "Raw state",
        "session.state_hint": "The value of the changelog record, {bytes} bytes.",
        "session.unreadable": "This changelog record is no session state; it is shown below as it is.",
        "session.newer": "State version {version} is newer than this console: the raw state may say more.",
        "session.dead": "The newest snapshot became a dead letter",
        "session.dead_where": "partition {partition}, offset {offset}, attempts {attempts}",
        "field.nombre": "Name",
        "field.email": "E-mail",
        "field.telefono": "Phone",
        "field.ocupacion": "Occupation",
        "field.nivel_interes": "Interest",
        "field.momento_optimo": "Momento",
        "field.objeciones": "Objections",
        "field.arquetipo": "Archetype",
        "field.extractor": "Extractor",
        "field.model": "Model",
        "field.prompt_version": "Prompt version",
        "field.enriched_at": "Extracted",
        "field.latency_ms": "Latency",
        "field.tokens": "Tokens in / out",
        "field.cache_read_tokens": "Tokens from cache",
        "field.cost_usd": "Cost",
        "field.dropped_fields": "Dropped as ungrounded",
        "field.tenant_id": "Tenant",
        "field.session_id": "Session",
        "field.fingerprints": "Fingerprints",
        "field.first_url": "First page",
        "field.turns": "Turns",
        "field.first_seen": "First seen",
        "field.last_seen": "Last seen",
        "field.snapshot_at": "Snapshot taken",
        "field.source": "Ingestion record",
        "field.changelog": "Changelog record",
        "field.changelog_topic": "Changelog topic",
        "field.recorded_at": "Written",
        "field.digest": "Digest",
        "counter.snapshots": "Snapshots",
        "counter.duplicates": "Duplicates",
        "counter.calls": "Calls",
        "counter.input_tokens": "Tokens in",
        "counter.output_tokens": "Tokens out",
        "counter.cost_usd": "USD",
        "signal.name": "Shows",
        "signal.turn": "Turn",
        "signal.where": "Characters",
        "place": "partition {partition}, offset {offset}",
        "milliseconds": "{n} ms",
        "utc": "Times are UTC.",
        # Errors
        "error.400": "This page link is not valid",
        "error.400_hint": "It may have been cut when it was copied. Start again from the list.",
        "error.404": "Not found",
        "error.404_hint": "There is no such page or session. A session that was erased is gone from here too.",
        "error.421": "Wrong host name",
        "error.421_hint": "The console answers to localhost only: it has no login yet.",
        "error.500": "Something went wrong",
        "error.500_hint": "The console’s log says what. The rest of it keeps working.",
        "error.back": "Go to the sessions",
    }
)

LANGUAGES: Mapping[str, Mapping[str, str]] = MappingProxyType({"en": ENGLISH})


def translator(language: str) -> Translate:
    """The function that templates call ``t``; an unknown key is a KeyError, so a test finds it."""
    texts = LANGUAGES[language]

    def translate(key: str, **values: object) -> str:
        return texts[key].format(**values)

    return translate
