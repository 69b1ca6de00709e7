"""Enriched records for benchmarks and replays of the sink, the same records in each run."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from nexus_stream.contracts.prospect import EnrichedProspect
from nexus_stream.supabase.writer import ProspectWriter

__all__ = ["Round", "enriched_records", "record", "replay"]

BATCH_ROWS = 500

_NAMES = ("Ana", "Ana Ruiz", "Luis", "Luis Peña", "Eva", "Eva María Soto")
_SIGNALS = ("nombre", "email", "telefono", "intencion")


def record(session: int, *, at: int = 1, person: int | None = None, name: str = "Ana") -> EnrichedProspect:
    """One session's record as the enricher publishes it, about 1.1 KB.

    Args:
        session: Number of the session.
        at: Number of the snapshot within the session.
        person: Number of the person; None for a session without fingerprint.
        name: The person's name.
    """
    return EnrichedProspect.model_validate(
        {
            "session_id": f"session-{session:08}",
            # 64 hex digits in random order, like the fingerprints of browsers.
            "fingerprint": None if person is None else f"{person * 2654435761 % 2**64:016x}" * 4,
            "prospect": {
                "nombre": name,
                "email": f"person{session}@example.com",
                "telefono": f"+1415555{session % 10000:04}",
                "ocupacion": "ingeniera de software",
                "nivel_interes": 8.5,
                "objeciones": ["price"],
                "arquetipo": "profesional_vision",
                "momento_optimo": "caliente",
            },
            "conversation": {"turns": 6, "digest": f"{session:032x}{at:032x}", "first_url": "https://example.com/"},
            "extraction": {
                "extractor": "claude",
                "model": "model",
                "prompt_version": "v1",
                "signals": [{"name": signal, "turn": 0, "start": 0, "end": 4} for signal in _SIGNALS],
            },
            "snapshot_at_ms": 1_790_000_000_000 + at,
            "enriched_at": f"2026-11-24T00:00:{at % 60:02}.000Z",
            "source": {"topic": "nexus-prospect-ingestion", "partition": session % 6, "offset": session * 10 + at},
        }
    )


def enriched_records(count: int) -> list[EnrichedProspect]:
    """Records of people with up to four sessions, and up to three snapshots per session.

    A quarter of the sessions gets its fingerprint only with the second snapshot.
    """
    chance = random.Random(20261124)  # noqa: S311 - the same records each time
    records: list[EnrichedProspect] = []
    session = 0
    while len(records) < count:
        session += 1
        person = session // 4 * 4 + chance.randrange(4)
        late = chance.random() < 0.25
        for at in range(1, chance.randint(1, 3) + 1):
            known = None if late and at == 1 else person
            records.append(record(session, at=at, person=known, name=chance.choice(_NAMES)))
    chance.shuffle(records)
    return records[:count]


@dataclass(frozen=True, slots=True)
class Round:
    """One pass over all records: the sessions stored or replaced, and the records rejected."""

    stored: int
    rejected: int


async def replay(
    writer: ProspectWriter, records: Sequence[EnrichedProspect], *, rounds: int = 3, shuffle_first: bool = False
) -> AsyncIterator[Round]:
    """Write all records several times; the third time they are shuffled."""
    order = list(records)
    for number in range(rounds):
        if shuffle_first or number == 2:
            random.Random(number).shuffle(order)  # noqa: S311 - reproducible on purpose
        stored = rejected = 0
        for start in range(0, len(order), BATCH_ROWS):
            result = await writer.write(order[start : start + BATCH_ROWS])
            stored += result.inserted + result.updated
            rejected += len(result.rejected)
        yield Round(stored, rejected)
