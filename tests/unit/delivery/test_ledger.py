"""The ledger never commits past unfinished work, and commits the end when all work is finished."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from nexus_stream.delivery.ledger import OffsetLedger

TP = ("ingestion", 0)


def test_nothing_is_committable_before_anything_was_read():
    assert OffsetLedger().committable() == {}


def test_a_slow_record_holds_back_the_commits_behind_it():
    ledger = OffsetLedger()
    for offset in range(10, 21):
        ledger.begin(TP, offset)
    for offset in range(11, 21):
        ledger.done(TP, offset)
    assert ledger.committable() == {}
    ledger.done(TP, 10)
    assert ledger.committable() == {TP: 21}


def test_gaps_in_offsets_cost_nothing():
    ledger = OffsetLedger()
    ledger.begin(TP, 5)
    ledger.begin(TP, 900)
    ledger.done(TP, 5)
    assert ledger.committable() == {TP: 900}
    ledger.done(TP, 900)
    assert ledger.committable() == {TP: 901}


def test_a_committed_offset_is_not_committed_again():
    ledger = OffsetLedger()
    ledger.begin(TP, 0)
    ledger.done(TP, 0)
    ledger.committed(ledger.committable())
    assert ledger.committable() == {}


def test_a_forgotten_partition_starts_again():
    ledger = OffsetLedger()
    ledger.begin(TP, 7)
    ledger.forget([TP])
    ledger.done(TP, 7)
    assert ledger.committable() == {}
    ledger.begin(TP, 3)
    ledger.done(TP, 3)
    assert ledger.committable() == {TP: 4}


def test_reading_again_after_a_seek_back_does_not_lose_the_head():
    ledger = OffsetLedger()
    for offset in (0, 1, 2):
        ledger.begin(TP, offset)
        ledger.done(TP, offset)
    ledger.begin(TP, 1)
    assert ledger.committable() == {TP: 1}
    ledger.done(TP, 1)
    assert ledger.committable() == {TP: 3}


@given(st.permutations(range(30)))
def test_every_order_of_completion_commits_the_end(order: list[int]):
    ledger = OffsetLedger()
    for offset in range(30):
        ledger.begin(TP, offset)
    finished: set[int] = set()
    for offset in order:
        ledger.done(TP, offset)
        finished.add(offset)
        expected = next((position for position in range(30) if position not in finished), 30)
        assert ledger.committable() == ({TP: expected} if expected else {})
    assert ledger.committable() == {TP: 30}
    assert ledger.unfinished() == 0


class LedgerMachine(RuleBasedStateMachine):
    """Reads with gaps, completions in any order, commits and revocations, against a plain model."""

    def __init__(self) -> None:
        super().__init__()
        self.ledger = OffsetLedger()
        self.unfinished: dict[tuple[str, int], set[int]] = {}
        self.next_offset: dict[tuple[str, int], int] = {}
        self.committed_on_broker: dict[tuple[str, int], int] = {}

    @rule(partition=st.integers(0, 2), gap=st.integers(0, 3))
    def read(self, partition: int, gap: int) -> None:
        tp = ("ingestion", partition)
        offset = self.next_offset.get(tp, self.committed_on_broker.get(tp, 0)) + gap
        self.ledger.begin(tp, offset)
        self.unfinished.setdefault(tp, set()).add(offset)
        self.next_offset[tp] = offset + 1

    @precondition(lambda self: any(self.unfinished.values()))
    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        candidates = [(tp, offset) for tp, offsets in self.unfinished.items() for offset in sorted(offsets)]
        tp, offset = data.draw(st.sampled_from(candidates))
        self.ledger.done(tp, offset)
        self.unfinished[tp].discard(offset)

    @rule()
    def commit(self) -> None:
        offsets = self.ledger.committable()
        self.ledger.committed(offsets)
        self.committed_on_broker.update(offsets)

    @rule()
    def revoke(self) -> None:
        self.ledger.forget()
        self.unfinished.clear()
        self.next_offset.clear()

    @invariant()
    def never_past_unfinished_work(self) -> None:
        for tp, offset in self.ledger.committable().items():
            assert all(offset <= unfinished for unfinished in self.unfinished.get(tp, ()))
            if not self.unfinished.get(tp):
                assert offset == self.next_offset[tp]

    @invariant()
    def all_finished_is_committable_or_committed(self) -> None:
        committable = self.ledger.committable()
        for tp, offset in self.next_offset.items():
            if not self.unfinished.get(tp):
                assert committable.get(tp, self.committed_on_broker.get(tp)) == offset

    @invariant()
    def memory_follows_unfinished_work(self) -> None:
        self.ledger.committable()
        assert self.ledger.unfinished() == sum(map(len, self.unfinished.values()))
        for tp, partition in self.ledger._partitions.items():
            if not self.unfinished.get(tp):
                assert not partition.heap
            assert len(partition.heap) <= 2 * len(partition.unfinished) + 64


TestLedgerMachine = LedgerMachine.TestCase


def test_memory_does_not_grow_with_finished_records_behind_an_unfinished_one():
    ledger = OffsetLedger()
    tp = ("ingestion", 0)
    for offset in range(100_000):
        ledger.begin(tp, offset)
        if offset > 0:
            ledger.done(tp, offset)

    assert ledger.unfinished() == 1
    assert len(ledger._partitions[tp].heap) <= 66
    assert ledger.committable() == {}
    ledger.done(tp, 0)
    assert ledger.committable() == {tp: 100_000}
