"""What the enricher ought to have done with a log, by reading the log alone: the model of test_interleavings.py."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import orjson
from aiokafka.partitioner import murmur2

from nexus_stream.testing.broker import InMemoryBroker, StoredRecord

INGESTION, ENRICHED, DEAD = "nexus-prospect-ingestion", "prospects-enriched", "nexus-prospect-dlq"
CHANGELOG = "sessions-changelog"
PARTITIONS = 2

# A snapshot's place among those of its session: how often the site began its history anew, and the turns since.
Place = tuple[int, int]


def home(session: str) -> int:
    partition: int = (murmur2(session.encode()) & 0x7FFFFFFF) % PARTITIONS
    return partition


@lru_cache(maxsize=4096)
def read(value: bytes) -> dict[str, Any]:
    body: dict[str, Any] = orjson.loads(value)
    return body


@dataclass(frozen=True, slots=True)
class Said:
    """What a record's value says; equal values say the same."""

    kind: str  # snapshot, malformed, erase, lift or expire
    session: str
    at_ms: int = 0
    place: Place = (0, 0)
    fingerprint: str | None = None
    digest: str = ""
    request_id: str = ""


@dataclass(frozen=True, slots=True)
class Reading:
    """What a session may have come to, by its log alone."""

    is_erased: bool = False
    lifted_at_ms: int | None = None
    newest: Place | None = None

    def keeps_away(self, said: Said) -> bool:
        return self.is_erased or (self.lifted_at_ms is not None and said.at_ms <= self.lifted_at_ms)


class LogReader:
    """Reads the log of ``broker``, where each value was said as in ``said``.

    Attributes:
        snapshots: Values by session, as they were produced.
        by_digest: What a snapshot's digest stands for.
        furthest: By partition, one past the last offset that was ever read.
        has_rules: Whether the rules read what no model reads: then a record follows on a letter.
    """

    broker: InMemoryBroker
    said: dict[bytes | None, Said]
    snapshots: dict[str, list[bytes]]
    by_digest: dict[str, Said]
    furthest: dict[int, int]
    has_rules: bool = False

    def log(self, partition: int) -> list[StoredRecord]:
        return [record for record in self.broker.records(INGESTION) if record.partition == partition]

    def committed(self, partition: int) -> int:
        return self.broker.committed.get((INGESTION, partition), 0)

    def fingerprints(self, key: bytes | None) -> set[str | None]:
        assert key is not None
        return {self.said[value].fingerprint for value in self.snapshots[key.decode()]} - {None}

    def newest(self, session: str) -> Said | None:
        return max((self.said[value] for value in self.snapshots[session]), key=lambda said: said.place, default=None)

    def states(self, session: str) -> list[dict[str, Any]]:
        """Every state in the changelog, the newest last."""
        records = [record for record in self.broker.records(CHANGELOG) if record.key == session.encode()]
        gone = {"status": "expired"}
        return [gone, *(gone if record.value is None else read(record.value) for record in records)]

    def letters(self) -> set[tuple[int, int]]:
        """Where the dead letters came from."""
        headers = [dict(record.headers) for record in self.broker.records(DEAD)]
        return {(int(one["nexus-origin-partition"]), int(one["nexus-origin-offset"])) for one in headers}

    def events(self, kind: str) -> list[StoredRecord]:
        return [
            r
            for r in self.broker.records(ENRICHED)
            if dict(r.headers)["ce_type"] == f"nexus.prospect.{kind}.v1".encode()
        ]

    def is_given_up(self, record: StoredRecord) -> bool:
        """Whether dead letters hold what a snapshot said, so that it need not be extracted."""
        if self.has_rules:
            return False
        said = self.said[record.value]
        log = self.log(record.partition)
        dead = [log[offset] for partition, offset in self.letters() if partition == record.partition]
        newer: set[Place] = set()
        for letter in dead:
            other = self.said[letter.value]
            if (other.kind, other.session) != ("snapshot", said.session):
                continue
            if other.place == said.place or (other.place > said.place and letter.offset < record.offset):
                # Given up itself, or too late beside one that was given up afterwards.
                return True
            if other.place > said.place and other.place[0] == said.place[0]:
                newer.add(other.place)
        # Of those that wait only the last two are kept.
        return len(newer) > 1

    def of_session(self, session: str, upto: int | None = None) -> Iterator[StoredRecord]:
        """A session's records at home. A command that was sent home twice counts once."""
        commands: set[str] = set()
        for record in self.log(home(session))[:upto]:
            said = self.said[record.value]
            if said.session == session and said.request_id not in commands:
                commands |= {said.request_id} - {""}
                yield record

    def was_expired(self, session: str) -> bool:
        """Whether an expiry was read: no state says so until it is obeyed, nor if its group wrote something later."""
        records = self.of_session(session, self.furthest[home(session)])
        return any(self.said[record.value].kind == "expire" for record in records)

    def reading_at(self, session: str, offset: int) -> Reading:
        """Whether a session was erased and let in again when that offset was read."""
        reading = Reading()
        for said in (self.said[record.value] for record in self.of_session(session, offset)):
            if said.kind == "erase":
                reading = Reading(is_erased=True)
            elif said.kind == "lift" and reading.is_erased:
                reading = Reading(lifted_at_ms=said.at_ms)
        return reading

    def has_had_its_effect(self, record: StoredRecord) -> bool:
        said = self.said[record.value]
        is_read = self.has_rules and said.kind == "snapshot"
        if (record.partition, record.offset) in self.letters() and not is_read:
            return True
        if home(said.session) != record.partition:
            origin = f"{INGESTION}-{record.partition}-{record.offset}".encode()
            return any(dict(sent.headers).get("nexus-hop") == origin for sent in self.log(home(said.session)))
        later = [
            self.said[r.value] for r in self.log(record.partition)[record.offset : self.furthest[record.partition]]
        ]
        erasures = {other.request_id for other in later if (other.kind, other.session) == ("erase", said.session)}
        match said.kind:
            case "snapshot":
                emitted = [self.by_digest[read(r.value)["conversation"]["digest"]] for r in self.events("enriched")]
                return (
                    any(one.session == said.session and one.place >= said.place for one in emitted)
                    or bool(erasures)
                    or self.reading_at(said.session, record.offset).keeps_away(said)
                    or self.is_given_up(record)
                    or self.is_stored_by_one_to_come(said)
                )
            case "erase":
                told = {read(r.value)["request_id"] for r in self.events("erased")}
                return said.request_id in told or len(erasures) > 1
            case "lift" | "expire":
                return True
        return False

    def is_stored_by_one_to_come(self, said: Said) -> bool:
        """Whether a newer one's answer is in the changelog, and its record, not committed yet, will emit it."""
        state = self.states(said.session)[-1]
        is_to_come = state.get("source_offset", 0) >= self.committed(home(said.session))
        return is_to_come and bool(state.get("digest")) and self.by_digest[state["digest"]].place >= said.place

    def readings(self, session: str) -> set[Reading]:
        """All that the session may have come to. More than one where a command or a failure leaves it open."""
        readings = {Reading()}
        # Histories that ended are remembered with the session, and forgotten with it.
        forgets = False
        for record in self.of_session(session):
            said = self.said[record.value]
            match said.kind:
                case "erase":
                    forgets = True
                    readings = {Reading(is_erased=True)}
                case "lift":
                    readings = {Reading(lifted_at_ms=said.at_ms) if one.is_erased else one for one in readings}
                case "expire":
                    forgets = True
                    # Unless something was said again before it was obeyed.
                    readings |= {one if one.is_erased else Reading() for one in readings}
                case "snapshot":
                    after = {
                        one
                        if one.keeps_away(said) or (one.newest is not None and one.newest >= said.place)
                        else replace(one, newest=said.place)
                        for one in readings
                    }
                    readings = after | readings if self.is_given_up(record) else after
                    if forgets:
                        # Said again, a history that ended before is a new one.
                        readings |= {
                            replace(one, newest=said.place)
                            for one in readings
                            if not one.keeps_away(said) and one.newest is not None and one.newest[0] > said.place[0]
                        }
        return readings

    def _was_given_up_or_expired(self, session: str) -> bool:
        records = list(self.of_session(session))
        return any(self.is_given_up(record) or self.said[record.value].kind == "expire" for record in records)
