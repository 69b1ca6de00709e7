"""One Kafka producer for all requests: all in-sync replicas acknowledge a record, or the request is refused.

From: app.py. To: topic ``nexus-prospect-ingestion``. A supervising task owns the producer. It starts while the broker
is down, watches the broker with metadata requests that create no topic, and replaces a producer that cannot recover.
Memory is bounded: a record's bytes count until Kafka accepts or refuses the record, also after the caller gave up.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Sequence
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka import errors as kafka_errors
from aiokafka.client import AIOKafkaClient
from aiokafka.protocol.metadata import MetadataRequest
from aiokafka.protocol.transaction import InitProducerIdRequest
from aiokafka.structs import RecordMetadata

from nexus_stream.errors import AccessDeniedError, BrokerUnavailableError, PermanentError, Reason
from nexus_stream.gateway.kafka_logs import quiet_kafka_logs
from nexus_stream.host.log import get_logger
from nexus_stream.kafka.access import require_access
from nexus_stream.kafka.clients import batch_bytes, client_options
from nexus_stream.settings import Settings

__all__ = ["Publisher"]

_log = get_logger(__name__)

_LINGER_MS = 2
_MAX_BATCH_BYTES = 128 * 1024
_MAX_PENDING_BYTES = 32 * 1024 * 1024
# Memory of a pending record besides its bytes: futures, headers, the request that waits for it.
_RECORD_OVERHEAD_BYTES = 4096
_FIRST_CONNECT_SECONDS = 1.0
_PROBE_TIMEOUT_SECONDS = 3.0
_PROBE_INTERVAL_SECONDS = 2.0
_RETRY_MIN_SECONDS = 0.25
_RETRY_MAX_SECONDS = 2.0
_INT32_MAX = 2**31 - 1

_TOO_LARGE = (kafka_errors.MessageSizeTooLargeError, kafka_errors.RecordListTooLargeError)
# These fail the record without a retry, but the producer is still healthy.
_HARMLESS = (
    *_TOO_LARGE,
    kafka_errors.KafkaTimeoutError,
    kafka_errors.ProducerClosed,
    kafka_errors.TopicAuthorizationFailedError,
)


class Publisher:
    """Publishes to the ingestion topic: `start` it, `publish` from any number of tasks, `stop` it.

    Attributes:
        connected: Whether the broker answered the last metadata request and the topic has a leader.
        problem: Why it is not connected, without addresses; empty if connected.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._topic = settings.ingestion_topic
        self._options = client_options(settings)
        self._max_batch_bytes = batch_bytes(settings, _MAX_BATCH_BYTES)
        self._timeout_seconds = settings.kafka_request_timeout_seconds
        # The largest body, its key, headers and framing.
        self._max_request_bytes = max(1_048_576, settings.max_body_bytes + 65_536)
        self._max_pending_bytes = max(_MAX_PENDING_BYTES, 4 * settings.max_body_bytes)
        self._pending_bytes = 0
        self._producer: AIOKafkaProducer | None = None
        self._supervisor: asyncio.Task[None] | None = None
        self._attempted = asyncio.Event()
        self._probe_now = asyncio.Event()
        self._replace_producer = False
        self.connected = False
        self.problem = "not started"

    async def start(self) -> None:
        """Start connecting. Returns after the first attempt or after one second, connected or not."""
        quiet_kafka_logs()
        self._supervisor = asyncio.create_task(self._supervise(), name="gateway-publisher")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_FIRST_CONNECT_SECONDS):
                await self._attempted.wait()

    async def stop(self, timeout_seconds: float) -> None:
        """Flush pending records and close. A record that is not acknowledged in time got no 202."""
        producer, self._producer = self._producer, None
        self.connected, self.problem = False, "the gateway is stopping"
        if self._supervisor is not None:
            self._supervisor.cancel()
            await asyncio.wait([self._supervisor])
            self._supervisor = None
        if producer is not None:
            await _close(producer, timeout_seconds)

    @property
    def pending_bytes(self) -> int:
        """Bytes that Kafka has neither accepted nor refused yet."""
        return self._pending_bytes

    async def publish(self, value: bytes, key: bytes, headers: Sequence[tuple[str, bytes]]) -> RecordMetadata:
        """Send one record and wait until all in-sync replicas have it.

        Returns:
            Its topic, partition and offset.

        Raises:
            BrokerUnavailableError: it was not acknowledged in time, or the bound on pending bytes is reached. The
                record may still arrive. A client that tries again sends the same snapshot, and the enricher detects it.
            PermanentError: the broker's limit on a record is lower than the gateway's (reason ``too_large``).
        """
        producer = self._producer
        if producer is None or not self.connected:
            raise BrokerUnavailableError(self.problem, retry_after_seconds=_PROBE_INTERVAL_SECONDS)
        cost = len(value) + len(key) + _RECORD_OVERHEAD_BYTES
        if self._pending_bytes + cost > self._max_pending_bytes:
            raise BrokerUnavailableError("the broker is slower than the requests", retry_after_seconds=1.0)
        self._pending_bytes += cost
        handed_over = False
        try:
            async with asyncio.timeout(self._timeout_seconds):
                acknowledged = await producer.send(self._topic, value=value, key=key, headers=list(headers))
                handed_over = True
                acknowledged.add_done_callback(lambda future: self._settled(future, cost))
                # Shielded: if the caller is cancelled, the producer still sends the record.
                return await asyncio.shield(acknowledged)
        except TimeoutError as error:
            self._probe_now.set()
            raise BrokerUnavailableError(
                f"not acknowledged in {self._timeout_seconds:g} s", retry_after_seconds=_PROBE_INTERVAL_SECONDS
            ) from error
        except _TOO_LARGE as error:
            _log.error(
                "the broker's max.message.bytes is too low for NEXUS_MAX_BODY_BYTES",
                extra={"event": "record_too_large", "topic": self._topic},
            )
            raise PermanentError("the record is over the broker's limit", reason=Reason.TOO_LARGE) from error
        except kafka_errors.KafkaError as error:
            self._replace_producer |= not error.retriable and not isinstance(error, _HARMLESS)
            self._probe_now.set()
            raise BrokerUnavailableError(
                f"not acknowledged: {type(error).__name__}", retry_after_seconds=_PROBE_INTERVAL_SECONDS
            ) from error
        finally:
            if not handed_over:
                self._pending_bytes -= cost

    def _settled(self, future: asyncio.Future[RecordMetadata], cost: int) -> None:
        self._pending_bytes -= cost
        if not future.cancelled():
            # Read the exception here, because the caller may be gone: asyncio would log it as never retrieved.
            future.exception()

    def _up(self) -> None:
        if not self.connected:
            _log.info("broker_connected", topic=self._topic)
        self.connected, self.problem = True, ""

    def _down(self, problem: str) -> None:
        if self.connected or problem != self.problem:
            _log.warning("broker_unavailable", problem=problem)
        self.connected, self.problem = False, problem

    async def _supervise(self) -> None:
        delay_seconds = _RETRY_MIN_SECONDS
        while True:
            try:
                self._producer = await self._connect()
            except (kafka_errors.KafkaError, OSError, TimeoutError) as error:
                self._down(await self._why(error))
                self._attempted.set()
                await asyncio.sleep(delay_seconds * random.uniform(0.8, 1.2))  # noqa: S311 - jitter, no secret
                delay_seconds = min(2 * delay_seconds, _RETRY_MAX_SECONDS)
                continue
            delay_seconds = _RETRY_MIN_SECONDS
            await self._watch(self._producer)
            producer, self._producer = self._producer, None
            self._down("the producer is being replaced")
            await _close(producer, _PROBE_TIMEOUT_SECONDS)
            await asyncio.sleep(delay_seconds)

    async def _why(self, error: BaseException) -> str:
        """Describe the problem. aiokafka cannot tell a refused login from a broker that is down, so check access."""
        try:
            await require_access(self._settings, "gateway")
        except AccessDeniedError as denied:
            problem = "the broker denies access"
            if problem != self.problem:
                _log.error("broker_access_denied", problem=str(denied))
            return problem
        except BrokerUnavailableError:
            pass
        return f"the broker cannot be reached ({type(error).__name__})"

    async def _connect(self) -> AIOKafkaProducer:
        idempotent = await self._broker_gives_producer_ids()
        producer = AIOKafkaProducer(
            **self._options,
            client_id="nexus-gateway",
            acks="all",
            # Without idempotence a retry after a lost answer may store a record twice; the enricher drops the second.
            enable_idempotence=idempotent,
            linger_ms=_LINGER_MS,
            max_batch_size=self._max_batch_bytes,
            max_request_size=self._max_request_bytes,
        )
        try:
            async with asyncio.timeout(self._timeout_seconds):
                await producer.start()
        except BaseException:
            await _close(producer, _PROBE_TIMEOUT_SECONDS)
            raise
        _log.info("producer_started", idempotent=idempotent)
        return producer

    async def _broker_gives_producer_ids(self) -> bool:
        """Request a producer id, as an idempotent producer does: Apache Kafka answers, the embedded broker refuses."""
        client = AIOKafkaClient(**self._options, client_id="nexus-gateway-probe")
        try:
            async with asyncio.timeout(self._timeout_seconds):
                await client.bootstrap()
                node_id = client.get_random_node()
                if node_id is None:
                    raise kafka_errors.NodeNotReadyError
                request = InitProducerIdRequest(transactional_id=None, transaction_timeout_ms=_INT32_MAX)
                response = await client.send(node_id, request)
        except kafka_errors.IncompatibleBrokerVersion:
            return False
        finally:
            await client.close()
        error = kafka_errors.for_code(response.error_code)
        if error is kafka_errors.NoError:
            return True
        if error.retriable:
            raise error
        return False

    async def _watch(self, producer: AIOKafkaProducer) -> None:
        """Update ``connected`` from the broker's answers; return when the producer should be replaced."""
        unreachable_since: float | None = None
        delay_seconds = _RETRY_MIN_SECONDS
        while not self._replace_producer:
            self._probe_now.clear()
            reached, problem = await self._probe(producer.client)
            if problem:
                self._down(problem)
            else:
                self._up()
            self._attempted.set()
            unreachable_since = None if reached else unreachable_since or time.monotonic()
            # A producer knows only the addresses in its last metadata; a new producer starts from the configured
            # servers. By now every request that waited for the old producer has timed out.
            if unreachable_since and time.monotonic() - unreachable_since > self._timeout_seconds:
                break
            delay_seconds = min(2 * delay_seconds, _RETRY_MAX_SECONDS) if problem else _RETRY_MIN_SECONDS
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(delay_seconds if problem else _PROBE_INTERVAL_SECONDS):
                    await self._probe_now.wait()
        self._replace_producer = False

    async def _probe(self, client: AIOKafkaClient) -> tuple[bool, str]:
        """Whether a broker answers, and the problem with the topic; empty if there is none.

        The request forbids topic creation: a broker with ``auto.create.topics.enable`` would create the topic with its
        own partition count. For the same reason the producer requests no metadata of the topic before the topic exists.
        """
        try:
            async with asyncio.timeout(_PROBE_TIMEOUT_SECONDS):
                response = await _ask_any_broker(client, MetadataRequest([self._topic], False))
                problem = _topic_problem(response, self._topic)
                if not problem and not client.cluster.partitions_for_topic(self._topic):
                    await client.force_metadata_update()
                    if not client.cluster.partitions_for_topic(self._topic):
                        problem = "the topic's partitions are not known yet"
                return True, problem
        except (kafka_errors.KafkaError, OSError, TimeoutError) as error:
            return False, f"the broker cannot be reached ({type(error).__name__})"


async def _ask_any_broker(client: AIOKafkaClient, request: MetadataRequest) -> Any:
    node_ids = [broker.nodeId for broker in client.cluster.brokers()]
    random.shuffle(node_ids)
    error: kafka_errors.KafkaError = kafka_errors.NodeNotReadyError()
    for node_id in node_ids:
        try:
            return await client.send(node_id, request)
        except kafka_errors.KafkaError as failure:
            error = failure
    raise error


def _topic_problem(response: Any, topic: str) -> str:
    for entry in response.topics:
        error_code, name, partitions = entry[0], entry[1], entry[-1]
        if name != topic or error_code == kafka_errors.UnknownTopicOrPartitionError.errno:
            continue
        if error_code != 0:
            return f"the topic {topic} cannot be used: {kafka_errors.for_code(error_code).__name__}"
        if not any(partition[2] >= 0 for partition in partitions):
            return f"the topic {topic} has no leader"
        return ""
    return f"the topic {topic} is missing: run `nexus topics apply`"


async def _close(producer: AIOKafkaProducer, timeout_seconds: float) -> None:
    # `stop` waits until every record is delivered. While the broker is down, that never happens.
    with contextlib.suppress(TimeoutError, kafka_errors.KafkaError):
        async with asyncio.timeout(timeout_seconds):
            await producer.stop()
