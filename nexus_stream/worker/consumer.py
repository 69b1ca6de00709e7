"""Faust's consumer, changed so that a rebalance loses no record.

It reads each partition in order from its committed offset, and commits only as a member of the group. The changes are
for Faust 0.15.3 and aiokafka 0.14, which are pinned. Without them chaos tests fail (tests/chaos: ``scale``,
``embedded-broker``, ``poll-interval``).
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
from nexus_stream.delivery.received import Unreadable
from nexus_stream.errors import ConfigurationError
from nexus_stream.kafka.access_watch import is_access_error
from nexus_stream.kafka.changelog import require_readable_change
from nexus_stream.kafka.clients import is_embedded, stop_consumer

__all__ = ["WorkerTransport"]

# Wait while no partition may be read. Faust's own wait is one second.
_NOTHING_TO_READ_SECONDS = 0.05
_WATERMARK_SECONDS = 5.0
# If the group does not learn that this worker left, it reassigns the partitions after the session timeout.
_LEAVE_SECONDS = 5.0


class _ConsumerThread(AIOKafkaConsumerThread):
    """Runs the aiokafka client in a thread with its own event loop."""

    # Set when the worker has begun to leave the group, before it closes the client.
    _leaving: Future[None] | None = None

    def _create_worker_consumer(self, transport: Any) -> AIOKafkaConsumer:
        """Set the fetch wait, which Faust fixes at 1.5 s.

        Apache Kafka answers a waiting fetch as soon as there is a record. The embedded broker polls at intervals that
        grow with the wait: a record arrived after 480 ms with a wait of 1.5 s, and after 16 ms with 50 ms.
        """
        consumer = super()._create_worker_consumer(transport)
        app: Any = self.app
        # The consumer reads this when it starts, which is later.
        consumer._fetch_max_wait_ms = int(app.nexus.kafka_fetch_max_wait_seconds * 1000)
        return consumer

    async def on_start(self) -> None:
        """Commit only as a member of the group.

        A worker that is no longer a member would commit without a generation (-1), and an empty group accepts that
        commit. On a restarted memory-only broker it would commit offsets of the old broker, past every new record.
        """
        await super().on_start()
        app: Any = self.app
        coordinator: Any = self._ensure_consumer()._coordinator
        commit = coordinator._do_commit_offsets

        async def commit_as_member(assignment: Any, offsets: Any) -> None:
            if coordinator.member_id == JoinGroupRequest.UNKNOWN_MEMBER_ID:
                raise UnknownMemberIdError
            if not assignment.active:
                # A retry from before a rebalance: it would be sent with the new generation, as if it belonged to it.
                raise IllegalGenerationError
            try:
                await commit(assignment, offsets)
            except KafkaError as error:
                app.access.hint(error)
                raise

        coordinator._do_commit_offsets = commit_as_member
        self._renew_lease_with_heartbeats(coordinator)

    def _renew_lease_with_heartbeats(self, coordinator: Any) -> None:
        """Renew the lease when the group confirms this worker's membership: see delivery/lease.py."""
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
        """Fetch from the active partitions. If a seek happens meanwhile, drop the records and restore the positions.

        Faust passes a set that it changes meanwhile; to Faust an empty set means no partition. To aiokafka an empty set
        means all partitions: Faust would drop their records, but their positions would have moved.
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
            # Faust would end the worker with only this error. The access watch reports the missing permission.
            app: Any = self.app
            app.access.hint(error)
            await asyncio.sleep(_NOTHING_TO_READ_SECONDS)
            return {}
        if reader.seeks == seeks:
            return records
        for tp, batch in records.items():
            subscription = consumer._subscription.subscription
            state = subscription.assignment.state_value(tp) if subscription and subscription.assignment else None
            # If the position differs, the seek came after this fetch, and stays.
            if state is not None and state._position == batch[-1].offset + 1:
                consumer._fetcher.seek_to(tp, batch[0].offset)
        return {}

    async def _highwaters(self, partitions: Iterable[TopicPartition]) -> Mapping[TP, int]:
        """The end offsets of partitions, for the table's recovery.

        The embedded broker accepts records for a topic that does not exist yet, for example from a client that used the
        broker before its restart. When the topic is created, fetches do not return those records, but ``ListOffsets``
        counts them (measured, Tansu 0.6: ends 7, 4, 4, 4, nothing to fetch). A recovery up to such an end never ends.
        So for the embedded broker the high watermark of a fetch is used instead.
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
        """Leave the group, so that it rebalances while this worker stops. Faust calls this from the main thread.

        Faust would also close the client on the main thread's loop, while this thread uses its sockets. uvloop then
        sometimes crashes (a segmentation fault in 1 of 20 such stops).
        """
        if self._consumer is not None and self._leaving is None:
            leave = self._consumer._coordinator.close()
            self._leaving = asyncio.run_coroutine_threadsafe(leave, self.thread_loop)

    async def on_thread_stop(self) -> None:
        """Leave the group and close, also while the broker is down.

        aiokafka's ``stop`` then raises a cancellation of its own task (see `stop_consumer`). Faust mistakes it for a
        cancellation of this thread, which then never reports its end. The worker waited a minute for it, longer than
        every grace period.
        """
        # All of Faust's steps except the last one, which is replaced below.
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
    """Resumes a stream's partitions only after the seek to their committed offsets.

    Faust resumes first and seeks later (``on_recovery_completed`` and ``_resume_streams``, faust/tables/recovery.py).
    It discards the records that it reads in between when it clears the buffers, but they have moved its read offset. So
    when the same records come again, they look old and are dropped, and the commits go past them. Measured with
    rebalances under load: up to a hundred records read twice at each rebalance, and sometimes a record never read.

    Attributes:
        seeks: Number of position changes; records that were fetched across a change are fetched again.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.seeks = 0
        self._not_sought_yet: set[TP] = set()

    async def perform_seek(self) -> None:
        """Seek to the committed offsets, or to the start of partitions without a commit.

        aiokafka leaves partitions without a commit where they are: past the records that were fetched and dropped since
        the assignment.
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
        """Seek one partition; Faust uses this for changelogs."""
        self.seeks += 1
        await super().seek(partition, offset)
        self.seeks += 1

    def _to_message(self, tp: TP, record: Any) -> Any:
        """Stop at a changelog record that cannot be read. The stage takes every other record as it is."""
        if isinstance(record.value, Unreadable) and self._is_changelog_tp(tp):
            try:
                require_readable_change(record.topic, record.partition, record.offset, record.value)
            except ConfigurationError as error:
                app: Any = self.app
                app.fail(error)
                raise
        return super()._to_message(tp, record)

    def resume_partitions(self, tps: Iterable[TP]) -> None:
        """Resume changelogs at once, and streams at the next `resume_flow`, which comes after the seek."""
        streams = {tp for tp in tps if not self._is_changelog_tp(tp)}
        self._not_sought_yet |= streams
        super().resume_partitions(set(tps) - streams)

    def pause_partitions(self, tps: Iterable[TP]) -> None:
        """Pause partitions, and do not resume them at the next `resume_flow`."""
        self._not_sought_yet.difference_update(tps)
        super().pause_partitions(tps)

    def resume_flow(self) -> None:
        """Resume the streams. Faust calls this last, after the seek and after clearing the buffers."""
        sought, self._not_sought_yet = self._not_sought_yet, set()
        if sought:
            super().resume_partitions(sought)
        super().resume_flow()

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """Forget the partitions that an interrupted recovery was about to resume.

        While the worker stops, Faust reports a revocation to nobody (``App._on_partitions_revoked``). The stage would
        then finish its running work as if it still owned the partitions, and write over their next owner's results.
        """
        self._not_sought_yet.clear()
        app: Any = self.app
        if app.should_stop:
            await app.give_up_partitions()
        await super().on_partitions_revoked(revoked)

    def _new_consumer_thread(self) -> _ConsumerThread:
        return _ConsumerThread(self, loop=self.loop, beacon=self.beacon)


class WorkerTransport(Transport):
    """The transport of a worker's app."""

    Consumer = _Consumer
