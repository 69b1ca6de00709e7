"""The log lines of a process: from our own loggers, from libraries and from Python itself."""

from __future__ import annotations

import asyncio
import gc
import io
import json
import logging
import sys
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import structlog

from nexus_stream.errors import DecodeError, Reason
from nexus_stream.observability.event_lines import EventHandler
from nexus_stream.observability.logs import configure_logs
from nexus_stream.observability.otel_tracing import context_of
from nexus_stream.settings import load_settings

SECRET = "Irma del Valle, 300 555 0102"

Configure = Callable[..., io.StringIO]


@pytest.fixture
def configure(monkeypatch: pytest.MonkeyPatch) -> Iterator[Configure]:
    """Set up logging like a process, with output to the returned stream; restore everything afterwards."""
    root = logging.getLogger()
    before = (root.handlers[:], root.level)
    levels = {name: logging.getLogger(name).level for name in root.manager.loggerDict}
    hooks = (sys.excepthook, sys.unraisablehook, warnings.showwarning)

    def set_up(**settings: Any) -> io.StringIO:
        handler = configure_logs(load_settings(environ={}, **{"log_format": "json", **settings}))
        assert isinstance(handler, EventHandler)
        stream = io.StringIO()
        handler.setStream(stream)
        return stream

    yield set_up
    sys.excepthook, sys.unraisablehook, warnings.showwarning = hooks
    root.handlers[:], root.level = before
    for name in list(root.manager.loggerDict):
        logging.getLogger(name).setLevel(levels.get(name, logging.NOTSET))
    structlog.reset_defaults()


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_only_our_own_loggers_can_be_at_debug(configure: Configure) -> None:
    stream = configure(log_level="DEBUG")
    for name in ("aiokafka.conn", "anthropic._base_client", "urllib3", "some.new.library", "faust", "asyncpg"):
        logging.getLogger(name).debug("a record: %s", SECRET)
    logging.getLogger("nexus_stream.gateway").debug("ours")
    logging.getLogger("nexus_stream.supabase.stage").debug("ours too")
    assert [line["event"] for line in lines(stream)] == ["ours", "ours too"]


def test_a_caller_cannot_fill_the_log_with_long_trace_headers(configure: Configure) -> None:
    stream = configure(log_level="DEBUG")
    context_of("0" * 600)
    assert lines(stream) == []


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_an_exception_shows_type_and_place_and_no_message(configure: Configure, log_format: str) -> None:
    stream = configure(log_format=log_format)
    try:
        try:
            int(SECRET)
        except ValueError as error:
            raise KeyError(SECRET) from error
    except KeyError:
        structlog.get_logger("nexus_stream.test").exception("failed")
        logging.getLogger("some.library").exception("Crashed reason=%r", sys.exc_info()[1])
    shown = stream.getvalue()
    assert SECRET not in shown
    assert "Irma" not in shown
    assert shown.count("ValueError") == 2
    assert "Crashed reason=KeyError" in shown
    assert "test_logs.py" in shown


def test_our_own_errors_keep_their_messages(configure: Configure) -> None:
    stream = configure()
    error = DecodeError("7 bytes, at most 3 are accepted", reason=Reason.TOO_LARGE)
    structlog.get_logger("nexus_stream.test").error("failed", exc_info=error)
    assert "DecodeError: 7 bytes, at most 3 are accepted" in lines(stream)[0]["exception"]


def test_an_exception_as_a_field_or_as_the_message_itself(configure: Configure) -> None:
    stream = configure()
    structlog.get_logger("nexus_stream.test").warning("failed", error=ValueError(SECRET))
    logging.getLogger("some.library").error(ValueError(SECRET))
    logging.getLogger("some.library").error("%(reason)s", {"reason": OSError(28, "No space left on device", SECRET)})
    assert SECRET not in stream.getvalue()
    field, message, mapped = lines(stream)
    assert field["error"] == message["event"] == "ValueError"
    assert mapped["event"] == "OSError: No space left on device"


def test_asyncios_report_of_an_unawaited_task_shows_no_message(configure: Configure) -> None:
    # Remove tasks that earlier tests left.
    gc.collect()
    stream = configure()

    async def fail() -> None:
        raise ValueError(SECRET)

    async def run() -> None:
        asyncio.get_running_loop().create_task(fail(), name=SECRET)
        await asyncio.sleep(0.01)
        # asyncio logs when the task is deleted.
        gc.collect()

    asyncio.run(run())
    assert SECRET not in stream.getvalue()
    (line,) = lines(stream)
    assert line["event"] == "Task exception was never retrieved"
    assert "ValueError" in line["exception"]


def test_warnings_and_uncaught_exceptions_are_logged_without_their_texts(configure: Configure) -> None:
    gc.collect()
    stream = configure()
    warnings.showwarning(UserWarning(SECRET), UserWarning, "somewhere.py", 7)
    monkeyed = sys.excepthook
    monkeyed(ValueError, ValueError(SECRET), None)
    assert SECRET not in stream.getvalue()
    warned, crashed = lines(stream)
    assert warned["event"] == "python_warning"
    assert (crashed["level"], "ValueError" in crashed["exception"]) == ("critical", True)


def test_an_exception_group_shows_its_parts(configure: Configure) -> None:
    stream = configure()
    group = ExceptionGroup(SECRET, [ValueError(SECRET), ExceptionGroup(SECRET, [KeyError(SECRET)])])
    structlog.get_logger("nexus_stream.test").error("failed", exc_info=group)
    shown = lines(stream)[0]["exception"]
    assert SECRET not in shown
    assert "ValueError" in shown
    assert "KeyError" in shown
