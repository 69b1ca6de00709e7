"""The rows are a function of the set of records and calls: their order, repetition and batching cannot matter."""

from __future__ import annotations

import itertools
import json
import random
from typing import TYPE_CHECKING, Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nexus_stream.contracts.prospect import EnrichedProspect
from nexus_stream.supabase.writer import ProspectWriter

if TYPE_CHECKING:
    from tests.integration.supabase.conftest import Database, MakeRecord

_tenants = (f"t{number}" for number in itertools.count())

_FACTS = st.fixed_dictionaries(
    {},
    optional={
        "nombre": st.sampled_from(["Ana", "ana", "Ana Ruiz", "Ruiz", "Eva", "", "Ána Ruiz Peña"]),
        "email": st.sampled_from(["ana@example.com", "eva@example.org", "no.example.com", ""]),
        "telefono": st.sampled_from(["+573005550102", "+14155550103", "300"]),
        "ocupacion": st.sampled_from(["médica", "profesora", ""]),
        "objeciones": st.lists(st.sampled_from(["price", "time", "trust", "mlm"]), unique=True, max_size=3),
    },
)
_SIGNALS = st.lists(
    st.sampled_from(["intencion", "desinteres", "correccion_nombre", "correccion_email", "correccion_telefono"]),
    max_size=2,
)
# Data of update_prospect_data's callers: nulls, decimals, corrections and unknown keys, too.
_CALL_FACTS = st.fixed_dictionaries(
    {},
    optional={
        "nombre": st.sampled_from(["Ana", "Ana Ruiz", "Eva", "", None]),
        "email": st.sampled_from(["ana@example.com", "no.example.com", "", None]),
        "telefono": st.sampled_from(["+573005550102", "300", None]),
        "nivel_interes": st.sampled_from([7.5, 2.25, "3.5", 0, None, "alto"]),
        "objeciones": st.sampled_from([["precio"], ["time", "mlm"], None]),
        "crm": st.sampled_from([7, 7.25, {"id": 1.5}, "", None, False]),
        "nota": st.sampled_from(["llamar", " ", None]),
        "signals": st.lists(
            st.sampled_from(["intencion", "correccion_nombre", "correccion_email", "correccion_telefono"]), max_size=2
        ),
    },
)
# Few sessions and people, so that they interact; each (session, moment) is one version with its own content.
_RECORDS = st.dictionaries(
    st.tuples(st.sampled_from(["s1", "s2", "s3", "s4", "s5"]), st.integers(1, 6)),
    st.tuples(st.sampled_from([None, None, "fp1", "fp2"]), _FACTS, _SIGNALS),
    min_size=1,
    max_size=14,
)


async def _rows(database: Database, tenant_id: str) -> tuple[Any, Any]:
    people = await database.admin.fetch(
        "SELECT fingerprint_id, prospect_data FROM prospect_tracking WHERE tenant_id = $1 ORDER BY 1", tenant_id
    )
    sessions = await database.admin.fetch(
        "SELECT session_id, fingerprint, record - 'tenant_id' AS record FROM prospect_sessions"
        " WHERE tenant_id = $1 ORDER BY 1",
        tenant_id,
    )
    return [tuple(row) for row in people], [tuple(row) for row in sessions]


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(versions=_RECORDS, seed=st.integers(0, 2**32 - 1))
async def test_shuffled_repeated_and_split_deliveries_make_the_same_rows(
    database: Database, writer: ProspectWriter, record: MakeRecord, versions: dict[Any, Any], seed: int
) -> None:
    shuffle = random.Random(seed)  # noqa: S311 - reproducible on purpose

    def records(tenant_id: str) -> list[EnrichedProspect]:
        return [
            record(session_id, fingerprint, at=at, signals=tuple(signals), tenant_id=tenant_id, **facts)
            for (session_id, at), (fingerprint, facts, signals) in sorted(versions.items())
        ]

    # Given the records in order, one by one
    in_order = next(_tenants)
    for one in records(in_order):
        await writer.write([one])

    # When they come in any order, some of them twice, in batches of any size
    shuffled = next(_tenants)
    deliveries = records(shuffled)
    deliveries += shuffle.sample(deliveries, shuffle.randint(0, len(deliveries)))
    shuffle.shuffle(deliveries)
    while deliveries:
        size = shuffle.randint(1, len(deliveries))
        await writer.write(deliveries[:size])
        del deliveries[:size]

    # Then the rows are the same, and only known facts remain
    people, sessions = await _rows(database, in_order)
    assert await _rows(database, shuffled) == (people, sessions)
    assert {key for key, _ in people} == {fingerprint or f"session:{session}" for session, fingerprint, _ in sessions}
    assert sum(data["sessions"] for _, data in people) == len({session for session, _ in versions})
    # And no session without a fact erased the fact of another session
    for key, data in people:
        said = [stored for session, fingerprint, stored in sessions if (fingerprint or f"session:{session}") == key]
        for fact in ("nombre", "email", "telefono", "ocupacion"):
            values = {stored["prospect"][fact] for stored in said if stored["prospect"][fact]}
            assert data[fact] is None or data[fact] in values
            assert (data[fact] is None) is (not values)


@settings(
    max_examples=30,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    versions=_RECORDS,
    calls=st.lists(st.tuples(st.sampled_from(["fp1", "fp2", "session:s1"]), _CALL_FACTS), min_size=1, max_size=4),
    seed=st.integers(0, 2**32 - 1),
)
async def test_calls_between_deliveries_make_the_same_rows(
    database: Database,
    writer: ProspectWriter,
    record: MakeRecord,
    versions: dict[Any, Any],
    calls: list[tuple[str, dict[str, Any]]],
    seed: int,
) -> None:
    shuffle = random.Random(seed)  # noqa: S311 - reproducible on purpose
    # A call to a session counts only if the session is known: that one comes first, everywhere.
    versions = {("s1", 0): (None, {"nombre": "Ana"}, []), **versions}

    async def deliver(tenant_id: str, *, shuffled: bool) -> Any:
        records = [
            record(session_id, fingerprint, at=at, signals=tuple(signals), tenant_id=tenant_id, **facts)
            for (session_id, at), (fingerprint, facts, signals) in sorted(versions.items())
        ]
        await writer.write([records.pop(0)])
        # The calls keep their order among themselves: their moment is when they are made.
        steps: list[Any] = [*records, *calls]
        if shuffled:
            places = sorted(shuffle.sample(range(len(steps)), len(calls)))
            shuffle.shuffle(records)
            steps = list(records)
            for place, call in zip(places, calls, strict=True):
                steps.insert(place, call)
        for is_record, group in itertools.groupby(steps, key=lambda step: isinstance(step, EnrichedProspect)):
            delivered = list(group)
            if is_record and shuffled:
                # In batches of any size, some of them twice.
                size = shuffle.randint(1, len(delivered))
                for start in range(0, len(delivered), size):
                    await writer.write(delivered[max(0, start - 1) : start + size])
                continue
            for step in delivered:
                if is_record:
                    await writer.write([step])
                    continue
                fingerprint, facts = step
                answer = await database.admin.fetchval(
                    "SELECT nexus_contribute($1, $2, $3)", tenant_id, fingerprint, facts
                )
                assert answer["success"], json.dumps(answer)
        return await _rows(database, tenant_id)

    assert await deliver(next(_tenants), shuffled=True) == await deliver(next(_tenants), shuffled=False)


async def test_records_of_one_version_that_differ_make_the_same_row_in_any_order_and_batching(
    database: Database, writer: ProspectWriter, record: MakeRecord
) -> None:
    versions = [record("s", "fp", ocupacion=name) for name in ("médica", "profesora", "contadora")]
    versions.append(record("s", "other", ocupacion="médica"))
    rows = []
    for number, order in enumerate(itertools.permutations(versions)):
        tenant_id = next(_tenants)
        mine = [one.model_copy(update={"tenant_id": tenant_id}) for one in order]
        size = 1 + number % len(mine)
        for start in range(0, len(mine), size):
            await writer.write(mine[start : start + size])
        rows.append(await _rows(database, tenant_id))
        assert (await writer.write(mine)).unchanged == len(mine)
    assert rows == [rows[0]] * len(rows)
    assert len(rows[0][0]) == 1
