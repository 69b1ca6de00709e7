"""aiokafka's lines in the gateway's log."""

import logging

import pytest

from nexus_stream.gateway.kafka_logs import OncePerInterval, quiet_kafka_logs


@pytest.fixture(autouse=True)
def _levels_restored():
    names = ("aiokafka", "aiokafka.conn", "aiokafka.producer.producer")
    before = {name: logging.getLogger(name).level for name in names}
    yield
    for name, level in before.items():
        logging.getLogger(name).setLevel(level)


def test_records_are_never_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    logging.getLogger("aiokafka").setLevel(logging.DEBUG)
    quiet_kafka_logs()
    logging.getLogger("aiokafka.producer.producer").debug("Sending (key=%s value=%s) to %s", b"k", b"secret", 0)
    assert "secret" not in caplog.text


def test_repeated_calls_set_the_filter_once() -> None:
    quiet_kafka_logs()
    quiet_kafka_logs()
    for name in ("aiokafka", "aiokafka.conn", "aiokafka.producer.sender"):
        assert sum(isinstance(each, OncePerInterval) for each in logging.getLogger(name).filters) == 1


def test_a_repeated_line_passes_once_per_interval() -> None:
    now = 5000.0
    once = OncePerInterval(lambda: now)

    def passes(template: str, attempt: int) -> bool:
        return once.filter(logging.LogRecord("aiokafka", logging.ERROR, "", 1, template, (attempt,), None))

    assert [passes("no connection, attempt %s", attempt) for attempt in range(100)] == [True] + [False] * 99
    assert passes("another line %s", 0)
    now += 31
    assert passes("no connection, attempt %s", 100)
