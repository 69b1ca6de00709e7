"""Where copies of a person's data remain after an erasure, and until when.

From: the settings the topics were made with. To: what ``nexus privacy`` prints. Kafka deletes whole segments, some time
after the newest record in them is too old, and compacts at its own pace: the moments here are the latest ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from nexus_stream.contracts.topics import COMPACTION_LAG_HOURS, segment_hours
from nexus_stream.settings import Settings

__all__ = ["Copy", "remaining_copies"]

# log.retention.check.interval.ms and file.delete.delay.ms, at Kafka's defaults, with room.
_BROKER_DELAY = timedelta(minutes=10)


@dataclass(frozen=True, slots=True)
class Copy:
    """One place. ``until`` None: no time follows from our settings, ``note`` tells what it depends on."""

    place: str
    what: str
    until: datetime | None
    note: str = ""

    def as_dict(self) -> dict[str, str | None]:
        """For JSON."""
        until = None if self.until is None else self.until.isoformat(timespec="seconds")
        return {"place": self.place, "what": self.what, "until": until, "note": self.note}


def remaining_copies(settings: Settings, now: datetime | None = None) -> list[Copy]:
    """Every place that may still hold the person's data once they were erased at ``now``."""
    now = now or datetime.now(UTC)

    def topic(name: str, retention_hours: int, what: str, note: str = "") -> Copy:
        hours = retention_hours + segment_hours(retention_hours)
        return Copy(f"topic {name}", what, now + timedelta(hours=hours) + _BROKER_DELAY, note)

    copies = [
        topic(
            settings.ingestion_topic,
            settings.ingestion_retention_hours,
            "conversations as they were sent",
            "each time their browser speaks again it sends the whole history anew: then for as long from then",
        ),
        topic(
            settings.enriched_topic,
            settings.enriched_retention_hours,
            "enriched records before the erasure",
            "a new session from the same browser is read once before it is erased: then for as long from then",
        ),
        topic(settings.dead_letter_topic, settings.dead_letter_retention_hours, "conversations that failed, if any"),
        Copy(
            f"topic {settings.sessions_changelog_topic}",
            "former states of the sessions",
            now + timedelta(hours=COMPACTION_LAG_HOURS) + _BROKER_DELAY,
            "compacted: only the erased marker stays",
        ),
        Copy(
            f"files of the enricher, {settings.data_dir}/{settings.enricher_app_id}",
            "former states of the sessions",
            now + timedelta(minutes=1),
            "on the worker that owns them now; one that owned them before keeps its copy until it owns them again or "
            "its directory is removed",
        ),
        Copy(
            f"file of the console, {settings.data_dir}/console",
            "former states of the sessions",
            now + timedelta(minutes=1),
            "while a console runs; one that is stopped does it when it starts",
        ),
        Copy(
            f"files of a backfill, {settings.data_dir}/backfill, where it ran",
            "conversations and answers that are not on the topic yet",
            None,
            "until the run has sent them; one that was broken off keeps them until it goes on to its end, or its "
            "directory is removed",
        ),
        Copy(
            "database files",
            "deleted rows, in the table until vacuum and in the write-ahead log until it is recycled",
            None,
            "autovacuum and the server's own settings",
        ),
        Copy(
            "database backups", "rows as they were", None, "the backup's own retention (Supabase: Database > Backups)"
        ),
        Copy("other subscribers", "what they stored of enriched records", None, "they are sent the erased event"),
    ]
    if settings.use_claude:
        if settings.cache_max_entries or settings.redis_url is not None:
            where = "Redis" if settings.redis_url is not None else "memory of the enrichers"
            until = now + timedelta(seconds=settings.cache_ttl_seconds)
            note = "emptied by the enricher that erases, within seconds; of another one's memory, or if Redis was away"
            copies.insert(6, Copy(where, "answers to former conversations, keyed by their hash", until, note))
        note = "as agreed with Anthropic; a backfill's batch until all of it is on the topic"
        copies.append(Copy("Anthropic", "conversations that were sent to Claude", None, note))
    return copies
