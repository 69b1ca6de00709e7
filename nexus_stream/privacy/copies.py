"""List the copies of a person's data that remain after an erasure, with their latest time of deletion.

The times follow from the topics' settings. Kafka deletes whole segments, some time after the newest record in a segment
expires. Kafka compacts at its own pace. So the times here are the latest possible ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from nexus_stream.contracts.topics import COMPACTION_LAG_HOURS, segment_hours
from nexus_stream.settings import Settings

__all__ = ["Copy", "remaining_copies"]

# log.retention.check.interval.ms and file.delete.delay.ms at Kafka's defaults, plus a margin.
_BROKER_DELAY = timedelta(minutes=10)


@dataclass(frozen=True, slots=True)
class Copy:
    """One place. If ``until`` is None, our settings do not limit the time; ``note`` names what does."""

    place: str
    what: str
    until: datetime | None
    note: str = ""

    def as_dict(self) -> dict[str, str | None]:
        """Return the copy for JSON."""
        until = None if self.until is None else self.until.isoformat(timespec="seconds")
        return {"place": self.place, "what": self.what, "until": until, "note": self.note}


def remaining_copies(settings: Settings, now: datetime | None = None) -> list[Copy]:
    """Return every place that may still hold data of a person who was erased at ``now``."""
    now = now or datetime.now(UTC)

    def topic(name: str, retention_hours: int, what: str, note: str = "") -> Copy:
        hours = retention_hours + segment_hours(retention_hours)
        return Copy(f"topic {name}", what, now + timedelta(hours=hours) + _BROKER_DELAY, note)

    copies = [
        topic(
            settings.ingestion_topic,
            settings.ingestion_retention_hours,
            "conversations as received",
            "each new message of the browser sends the whole history again: then the time counts from that message",
        ),
        topic(
            settings.enriched_topic,
            settings.enriched_retention_hours,
            "enriched records before the erasure",
            "a new session of the browser is read once before it is erased: then the time counts from that session",
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
            "on the worker that owns the partition now; a former owner keeps its copy until it owns the partition "
            "again or its directory is removed",
        ),
        Copy(
            f"file of the console, {settings.data_dir}/console",
            "former states of the sessions",
            now + timedelta(minutes=1),
            "if a console runs; a stopped console removes them when it starts",
        ),
        Copy(
            f"files of a backfill, {settings.data_dir}/backfill, where it ran",
            "conversations and answers that are not on the topic yet",
            None,
            "until the run has sent them; an interrupted run keeps them until it is resumed and ends, or until its "
            "directory is removed",
        ),
        Copy(
            "database files",
            "deleted rows: in the table until vacuum, in the write-ahead log until it is recycled",
            None,
            "autovacuum and the server's own settings",
        ),
        Copy("database backups", "former rows", None, "the backup's own retention (Supabase: Database > Backups)"),
        Copy("other subscribers", "their stored enriched records", None, "they receive the erased event"),
    ]
    if settings.use_claude:
        if settings.cache_max_entries or settings.redis_url is not None:
            where = "Redis" if settings.redis_url is not None else "memory of the enrichers"
            until = now + timedelta(seconds=settings.cache_ttl_seconds)
            note = (
                "the erasing enricher deletes them within seconds; this time is for another enricher's memory, or if "
                "Redis was unreachable"
            )
            copies.insert(6, Copy(where, "answers to former conversations, keyed by their hash", until, note))
        note = "the agreement with Anthropic; a backfill's batch until all its results are on the topic"
        copies.append(Copy("Anthropic", "conversations sent to Claude", None, note))
    return copies
