"""A topic read again from its start changes no row: three times the same records, the third time shuffled.

``python -m benchmarks.sink --replay`` does it with 100,000.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.sink_records import enriched_records, replay
from nexus_stream.supabase.writer import ProspectWriter

if TYPE_CHECKING:
    from tests.integration.supabase.conftest import Database

_RECORDS = 5_000


async def test_the_tables_checksum_does_not_change_after_the_first_time(
    database: Database, writer: ProspectWriter
) -> None:
    # Given people with several sessions, sessions with several records, some of which get their fingerprint late
    records = enriched_records(_RECORDS)
    checksums = []
    async for round_ in replay(writer, records):
        checksums.append(await database.checksum())
        # Each time all records are written, and only the first time rows change
        assert round_.rejected == 0
        assert (round_.stored > 0) is (len(checksums) == 1)
    assert len(checksums) == 3
    assert len(set(checksums)) == 1

    sessions = {(record.tenant_id, record.session_id) for record in records}
    assert await database.admin.fetchval("SELECT count(*) FROM prospect_sessions") == len(sessions)
    counted = await database.admin.fetchval("SELECT sum((prospect_data->>'sessions')::int) FROM prospect_tracking")
    assert counted == len(sessions)


async def test_shuffled_at_first_they_make_the_same_rows(database: Database, writer: ProspectWriter) -> None:
    records = enriched_records(1_000)
    async for _ in replay(writer, records, rounds=1):
        pass
    expected = await database.checksum()
    await database.admin.execute("TRUNCATE prospect_sessions, prospect_tracking, prospect_contributions")
    async for _ in replay(writer, records, rounds=1, shuffle_first=True):
        pass
    assert await database.checksum() == expected
