"""Faust's consumer, made to lose nothing around a rebalance.

From: worker.py, as the app's transport. To: records in order, each partition from its committed offset, and commits as
a member of the group only. Everything here is about Faust 0.15.3 and aiokafka 0.14, which are pinned; the chaos rows
fail without it (tests/chaos: ``scale``, ``embedded-broker``, ``poll-interval``).
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import Future
from typing import Any, cast

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import IllegalGenerationError, KafkaError, UnknownMemberIdError
from aiokafka.protocol.group import JoinGroupRequest
from faust.transport.drivers.aiokafka import AIOKafkaConsumerThread, Consumer, Transport
from faust.types import TP

from nexus_stream.delivery import lease as leases
from nexus_stream.kafka.access_watch import is_access_error
from nexus_stream.kafka.clients import is_embedded, stop_consumer

__all__ = ["WorkerTransport"]

# Until a partition may be read: Faust's own wait is a second.
_NOTHING_TO_READ_SECONDS = 0.05
_WATERMARK_SECONDS = 5.0
# A group that does not hear of it gives the partitions away after the session timeout.
_LEAVE_SECONDS = 5.0


class _ConsumerThread(AIOKafkaConsumerThread):
    """Runs the aiokafka client, in a thread with a loop of its own."""

    # Leaving the group, once that has begun before the rest is closed.
    _leaving: Future[None] | None = None

    def _create_worker_consumer(self, transport: Any) -> AIOKafkaConsumer:
        """Set the fetch wait, which Faust fixes at 1.5 s.

        Apache Kafka answers a waiting fetch as soon as there is a record. The embedded broker polls, at intervals that
        grow with the wait: a record was seen after 480 ms with 1.5 s, after 16 ms with 50 ms.
        """
        consumer = super()._create_worker_consumer(transport)
        app: Any = self.app
        # Read by the consumer when it starts, which is after this.
        consumer._fetch_max_wait_ms = int(app.nexus.kafka_fetch_max_wait_seconds * 1000)
        return consumer

    async def on_start(self) -> None:
        """Commit as a member of the group or not at all.

        A worker that its group no longer knows would commit as nobody (generation -1), and an empty group accepts that:
        on a memory-only broker that was started again, offsets of the one before, past everything that is there now.
        """
        await super().on_start()
        app: Any = self.app
        coordinator: Any = self._ensure_consumer()._coordinator
        commit = coordinator._do_commit_offsets

        async def commit_as_member(assignment: Any, offsets: Any) -> None:
            if coordinator.member_id == JoinGroupRequest.UNKNOWN_MEMBER_ID:
                raise UnknownMemberIdError
            if not assignment.active:
                # Tried again since before a rebalance: it would go out under the new generation, as if it were its.
                raise IllegalGenerationError
            try:
                await commit(assignment, offsets)
            except KafkaError as error:
                app.access.hint(error)
                raise

        coordinator._do_commit_offsets = commit_as_member
        self._renew_lease_with_heartbeats(coordinator)

    def _renew_lease_with_heartbeats(self, coordinator: Any) -> None:
        """Note when the group was last heard to hold us: see delivery/lease.py."""
        app: Any = self.app
        lease: leases.Lease = app.lease
        heartbeat, joined, reset = (
            coordinator._do_heartbeat,
            coordinator._on_join_complete,
            coordinator.reset_generation,
        )

        async def noted_heartbeat() -> bool:
            asked_at = leases.now()
            known: bool = await heartbeat()
            if known:
                lease.renew(asked_at)
            return known

        async def noted_join(*args: Any) -> None:
            lease.renew(leases.now())
            await joined(*args)

        def noted_reset() -> None:
            lease.lose()
            reset()

        coordinator._do_heartbeat = noted_heartbeat
        coordinator._on_join_complete = noted_join
        coordinator.reset_generation = noted_reset

    async def _fetch_records(
        self,
        consumer: AIOKafkaConsumer,
        active_partitions: set[TP],
        timeout: float | None = None,  # noqa: ASYNC109 - Faust's signature
        max_records: int | None = None,
    ) -> Any:
        """Fetch from the partitions that are active now, and give back what a seek has overtaken.

        Faust hands over a set that it changes meanwhile, and takes an empty one for none. aiokafka takes an empty one
        for all: Faust drops what then comes, though the position has moved.
        """
        wanted = set(active_partitions)
        if not wanted:
            await asyncio.sleep(_NOTHING_TO_READ_SECONDS)
            return {}
        reader: Any = self.consumer
        seeks = reader.seeks
        try:
            records = await super()._fetch_records(consumer, wanted, timeout, max_records)
        except KafkaError as error:
            if not is_access_error(error):
                raise
            # Faust would end the worker with the error alone; what is missing is found out and told by the watch.
            app: Any = self.app
            app.access.hint(error)
            await asyncio.sleep(_NOTHING_TO_READ_SECONDS)
            return {}
        if reader.seeks == seeks:
            return records
        for tp, batch in records.items():
            subscription = consumer._subscription.subscription
            state = subscription.assignment.state_value(tp) if subscription and subscription.assignment else None
            # Elsewhere by now: the seek came after this fetch, and has the last word.
            if state is not None and state._position == batch[-1].offset + 1:
                consumer._fetcher.seek_to(tp, batch[0].offset)
        return {}

    async def _highwaters(self, partitions: Iterable[TopicPartition]) -> Mapping[TP, int]:
        """Tell where the partitions end, as the table's recovery wants to know it.

        The embedded broker accepts records for a topic that does not exist yet: those of a client of the broker before
        it, which it does not tell from a new one. Creating the topic hides them from fetches but not from
        ``ListOffsets`` (measured, Tansu 0.6: ends 7, 4, 4, 4, nothing to fetch), and a recovery up to such an end never
        ends. So there the watermark that comes with a fetch is asked instead.
        """
        wanted = list(partitions)
        consumer, app = self._ensure_consumer(), cast(Any, self.app)
        if is_embedded(app.cluster_id):
            deadline = time.monotonic() + _WATERMARK_SECONDS
            while time.monotonic() < deadline:
                watermarks = {tp: consumer.highwater(tp) for tp in wanted}
                if None not in watermarks.values():
                    return cast(Mapping[TP, int], watermarks)
                await asyncio.sleep(_NOTHING_TO_READ_SECONDS)
        return cast(Mapping[TP, int], await consumer.end_offsets(wanted))

    def close(self) -> None:
        """Leave the group, which rebalances while this worker stops; called by Faust from the main thread.

        Faust closes the client there too, on the main thread's loop, while this thread uses its sockets: uvloop then
        crashes now and then (a segmentation fault in 1 of 20 such stops).
        """
        if self._consumer is not None and self._leaving is None:
            leave = self._consumer._coordinator.close()
            self._leaving = asyncio.run_coroutine_threadsafe(leave, self.thread_loop)

    async def on_thread_stop(self) -> None:
        """Leave the group and close, also while the broker is away.

        aiokafka's ``stop`` then lets out a cancellation of its own (see `stop_consumer`). Faust takes it for one of
        this thread, which never says that it has ended; the worker waited a minute for it: past every grace period.
        """
        # All of Faust's but the last step, which is the same without that.
        await super(AIOKafkaConsumerThread, self).on_thread_stop()
        if self._leaving is not None:
            with contextlib.suppress(TimeoutError, KafkaError):
                await asyncio.wait_for(asyncio.wrap_future(self._leaving), _LEAVE_SECONDS)
        if self._consumer is not None:
            await stop_consumer(self._consumer)

    async def seek_to_start(self, partitions: Iterable[TopicPartition]) -> None:
        """Read those partitions from their first record."""
        await self.call_thread(self._ensure_consumer().seek_to_beginning, *partitions)


class _Consumer(Consumer):
    """Lets a stream's partitions flow only after they were sought to their committed offsets.

    Faust does the two in the other order (``on_recovery_completed`` and ``_resume_streams``, faust/tables/recovery.py).
    What it reads in between is thrown away when the buffers are cleared, but has moved its own read offset; so the same
    records look old when they come again and are dropped, and the commits go past them. Measured with rebalances under
    load: up to a hundred records read twice at each, and now and then one that was never seen.

    Attributes:
        seeks: How often positions were changed; what was fetched across a change is fetched again.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.seeks = 0
        self._not_sought_yet: set[TP] = set()

    async def perform_seek(self) -> None:
        """Seek to the committed offsets; where nothing was committed yet, to the start.

        aiokafka leaves the latter where they are, which is past whatever was fetched and dropped since the assignment.
        """
        self.seeks += 1
        await super().perform_seek()
        read_offsets: Mapping[TP, int | None] = self._read_offset
        never_committed = [
            TopicPartition(tp.topic, tp.partition)
            for tp in self.assignment()
            if not read_offsets.get(tp) and not self._is_changelog_tp(tp)
        ]
        if never_committed:
            thread: Any = self._thread
            await thread.seek_to_start(never_committed)
        self.seeks += 1

    async def seek(self, partition: TP, offset: int) -> None:
        """Seek one partition: Faust does that with changelogs."""
        self.seeks += 1
        await super().seek(partition, offset)
        self.seeks += 1

    def resume_partitions(self, tps: Iterable[TP]) -> None:
        """Resume changelogs at once, streams with the next `resume_flow`: that is after the seek."""
        streams = {tp for tp in tps if not self._is_changelog_tp(tp)}
        self._not_sought_yet |= streams
        super().resume_partitions(set(tps) - streams)

    def pause_partitions(self, tps: Iterable[TP]) -> None:
        """Pause, and forget that they were to be resumed."""
        self._not_sought_yet.difference_update(tps)
        super().pause_partitions(tps)

    def resume_flow(self) -> None:
        """Called last, when partitions are sought and buffers cleared."""
        sought, self._not_sought_yet = self._not_sought_yet, set()
        if sought:
            super().resume_partitions(sought)
        super().resume_flow()

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """Forget what a recovery that is overtaken by this rebalance was about to resume.

        While the worker stops, Faust tells nobody (``App._on_partitions_revoked``): the stage, which is finishing what
        runs, would take its partitions for its own until it is done, and write behind their next owner's back.
        """
        self._not_sought_yet.clear()
        app: Any = self.app
        if app.should_stop:
            await app.give_up_partitions()
        await super().on_partitions_revoked(revoked)

    def _new_consumer_thread(self) -> _ConsumerThread:
        return _ConsumerThread(self, loop=self.loop, beacon=self.beacon)


class WorkerTransport(Transport):
    """What an app uses as its transport."""

    Consumer = _Consumer
