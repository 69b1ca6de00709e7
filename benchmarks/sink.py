"""The throughput of the sink, as a ratio to COPY and merge in the same run on the same database.

    python -m benchmarks.sink [--rows 5000] [--rounds 7] [--batch 500] [--dsn DSN] [--json]
    python -m benchmarks.sink --replay [--rows 100000]

The limit is PostgreSQL's own speed with the same records: COPY into a temporary table, an upsert into prospect_sessions
with the same guard, and the newest record's facts into prospect_tracking, without any merge rule. It has the same
indexes, and one transaction per batch. Both start from decoded records. There are two kinds of work: new sessions, and
sessions that a newer record replaces. The order alternates from round to round, and the first round is a warm-up. The
machine is shared, so only ratios within a round are reported: their median, minimum and maximum.

``--replay`` writes the same records three times, the third time shuffled, and compares the tables' checksums.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import ExitStack
from typing import Any

import asyncpg

from benchmarks.sink_records import BATCH_ROWS, enriched_records, record, replay
from nexus_stream.contracts.prospect import EnrichedProspect
from nexus_stream.embedded.postgres import EmbeddedPostgres
from nexus_stream.settings import load_settings
from nexus_stream.supabase.migrate import apply_migrations
from nexus_stream.supabase.rows import newest_rows
from nexus_stream.supabase.writer import ProspectWriter
from tests.support.postgres import server_folder

REPLAY_ROWS = 100_000
WORK = ("new", "replaced")

_INCOMING = """
CREATE TEMP TABLE incoming (tenant_id text, session_id text, fingerprint text, record jsonb, snapshot_at_ms bigint,
    enriched_at timestamptz, source text) ON COMMIT DELETE ROWS
"""
_MERGE_SESSIONS = """
INSERT INTO prospect_sessions AS stored
    (tenant_id, session_id, fingerprint, record, snapshot_at_ms, enriched_at, source)
SELECT * FROM incoming
ON CONFLICT (tenant_id, session_id) DO UPDATE SET
    fingerprint = excluded.fingerprint, record = excluded.record, snapshot_at_ms = excluded.snapshot_at_ms,
    enriched_at = excluded.enriched_at, source = excluded.source, updated_at = clock_timestamp()
WHERE (excluded.snapshot_at_ms, excluded.enriched_at) > (stored.snapshot_at_ms, stored.enriched_at)
"""
_MERGE_PEOPLE = """
INSERT INTO prospect_tracking AS stored (tenant_id, fingerprint_id, prospect_data)
SELECT tenant_id, fingerprint, record -> 'prospect' FROM incoming
ON CONFLICT (tenant_id, fingerprint_id) DO UPDATE SET
    prospect_data = stored.prospect_data || excluded.prospect_data, updated_at = clock_timestamp()
"""
_CHECKSUM = """
SELECT md5(
    (SELECT string_agg(md5(t::text), '' ORDER BY t.tenant_id, t.fingerprint_id)
        FROM (SELECT tenant_id, fingerprint_id, prospect_data, merged_keys FROM prospect_tracking) t)
    || (SELECT string_agg(md5(s::text), '' ORDER BY s.tenant_id, s.session_id)
        FROM (SELECT tenant_id, session_id, fingerprint, record, snapshot_at_ms, enriched_at, source
            FROM prospect_sessions) s)
)
"""
_EMPTY = "TRUNCATE prospect_sessions, prospect_tracking, prospect_contributions"

Write = Callable[[Sequence[EnrichedProspect]], Awaitable[Any]]


async def copy_and_merge(connection: asyncpg.Connection[Any], batch: Sequence[EnrichedProspect]) -> None:
    """Store the batch as fast as PostgreSQL can: the limit."""
    rows, _ = newest_rows(batch)
    values = [
        (r.tenant_id, r.session_id, r.fingerprint, r.record_json, r.snapshot_at_ms, r.enriched_at, r.source)
        for r in rows
    ]
    async with connection.transaction():
        await connection.copy_records_to_table("incoming", records=values)
        await connection.execute(_MERGE_SESSIONS)
        await connection.execute(_MERGE_PEOPLE)


async def measure(write: Write, rows: int, batch: int, at: int) -> float:
    """Measure rows per second."""
    records = [record(number, person=number, at=at) for number in range(rows)]
    started = time.perf_counter()
    for start in range(0, rows, batch):
        await write(records[start : start + batch])
    return rows / (time.perf_counter() - started)


async def compare(dsn: str, rows: int, rounds: int, batch: int) -> list[dict[str, float]]:
    """Measure all rounds. Return a dict for each round: rows per second of each way and each kind of work."""
    writer = await ProspectWriter.connect(load_settings(environ={}, database_url=dsn, sink_batch_max_rows=batch))
    connection = await asyncpg.connect(dsn)
    await connection.execute(_INCOMING)
    ways: dict[str, Write] = {"sink": writer.write, "copy": lambda batch: copy_and_merge(connection, batch)}
    measured = []
    for number in range(rounds + 1):
        found: dict[str, float] = {}
        # The order alternates, because the second way may find warmer caches or a running checkpoint.
        for way in ("sink", "copy") if number % 2 else ("copy", "sink"):
            await connection.execute(_EMPTY)
            for at, work in enumerate(WORK, start=1):
                found[f"{way} {work}"] = await measure(ways[way], rows, batch, at)
        if number > 0:
            measured.append(found)
    await connection.close()
    await writer.close()
    return measured


def summary(measured: Sequence[dict[str, float]]) -> dict[str, Any]:
    """Medians of the rates and of the ratios within each round; the total ratio compares the summed times."""
    ratios = {work: [found[f"sink {work}"] / found[f"copy {work}"] for found in measured] for work in WORK}
    together = [
        sum(1 / found[f"copy {work}"] for work in WORK) / sum(1 / found[f"sink {work}"] for work in WORK)
        for found in measured
    ]
    return {
        "ratio_to_copy": round(statistics.median(together), 3),
        "ratio_to_copy_lowest": round(min(together), 3),
        "ratio_to_copy_highest": round(max(together), 3),
        **{f"ratio_to_copy_{work}": round(statistics.median(ratios[work]), 3) for work in WORK},
        **{
            f"{way}_{work}_rows_per_second": round(statistics.median(found[f"{way} {work}"] for found in measured))
            for way in ("sink", "copy")
            for work in WORK
        },
        "rounds": len(measured),
    }


async def check_replay(dsn: str, rows: int) -> bool:
    """Print a line for each pass. Return whether the checksum stayed the same."""
    records = enriched_records(rows)
    writer = await ProspectWriter.connect(load_settings(environ={}, database_url=dsn))
    connection = await asyncpg.connect(dsn)
    checksums = []
    started = time.perf_counter()
    async for reading in replay(writer, records):
        seconds, checksum = time.perf_counter() - started, await connection.fetchval(_CHECKSUM)
        checksums.append(checksum)
        shuffled = " (shuffled)" if len(checksums) == 3 else ""
        print(
            f"reading {len(checksums)}{shuffled}: {rows} records in {seconds:.1f} s, {reading.stored} stored, "
            f"{reading.rejected} refused, checksum {checksum}"
        )
        started = time.perf_counter()
    counts = await connection.fetchrow(
        "SELECT (SELECT count(*) FROM prospect_sessions) AS sessions,"
        " (SELECT count(*) FROM prospect_tracking) AS people"
    )
    print(f"{counts['sessions']} sessions of {counts['people']} people")
    await connection.close()
    await writer.close()
    return len(set(checksums)) == 1


def show(result: dict[str, Any]) -> None:
    """Print the table."""
    print(f"{'':12}{'sink rows/s':>14}{'COPY rows/s':>14}{'ratio':>8}")
    for work in WORK:
        print(
            f"{work:12}{result[f'sink_{work}_rows_per_second']:>14,}{result[f'copy_{work}_rows_per_second']:>14,}"
            f"{result[f'ratio_to_copy_{work}']:>8.2f}"
        )
    print(
        f"{'together':12}{'':28}{result['ratio_to_copy']:>8.2f}   "
        f"({result['ratio_to_copy_lowest']:.2f} to {result['ratio_to_copy_highest']:.2f} in {result['rounds']} rounds)"
    )


def main() -> None:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(description="The sink's throughput as a ratio to COPY and merge.")
    parser.add_argument("--rows", type=int, help=f"a round; 5,000, and {REPLAY_ROWS:,} for --replay")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--batch", type=int, default=BATCH_ROWS)
    parser.add_argument("--dsn", help="an empty database that may be filled; default: an embedded PostgreSQL")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--replay", action="store_true", help="write the same records three times instead")
    options = parser.parse_args()
    with ExitStack() as stack:
        dsn = options.dsn
        if dsn is None:
            folder = stack.enter_context(server_folder())
            dsn = stack.enter_context(EmbeddedPostgres.start(folder / "data")).dsn
        asyncio.run(apply_migrations(dsn))
        if options.replay:
            sys.exit(0 if asyncio.run(check_replay(dsn, options.rows or REPLAY_ROWS)) else 1)
        measured = asyncio.run(compare(dsn, options.rows or 5_000, options.rounds, options.batch))
    result = summary(measured)
    if options.json:
        print(json.dumps(result))
    else:
        show(result)


if __name__ == "__main__":
    main()
