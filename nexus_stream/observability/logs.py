"""Logs are events with fields and without personal data: topic, partition and offset identify a record.

JSON lines in production, readable lines in development. ``NEXUS_LOG_LEVEL`` is the level of our own loggers. All other
libraries stay at INFO or above, because at DEBUG they log data: aiokafka logs each record, the anthropic SDK whole
conversations. Exceptions are logged with type and place, without a message that may quote a value (safe_errors.py).
"""

from __future__ import annotations

import logging
import sys
import threading
import warnings
from collections.abc import Mapping
from types import TracebackType
from typing import Any

import structlog

from nexus_stream.host.log import get_logger
from nexus_stream.observability.event_lines import EventHandler, hashed
from nexus_stream.observability.safe_errors import safe_message, safe_traceback
from nexus_stream.settings import Settings

__all__ = ["configure_logs", "hashed", "logging_config"]

# Our own packages: only their loggers can be at DEBUG.
_OURS = ("nexus_stream", "agents", "tables")

_QUIET = {
    "aiokafka": logging.WARNING,
    "faust": logging.WARNING,
    "mode": logging.WARNING,
    "anthropic": logging.INFO,
    "httpx": logging.WARNING,
    "httpcore": logging.WARNING,
    "aiohttp.access": logging.WARNING,
    "asyncio": logging.WARNING,
    "opentelemetry": logging.WARNING,
    # This logger warns of each header that is too long, and any client can send many.
    "opentelemetry.trace.propagation": logging.ERROR,
    # This logger reports every topic that it may not create. `nexus topics apply` creates our topics.
    "faust.transport.drivers.aiokafka": logging.ERROR,
}

_log = get_logger(__name__)


def _use_json(settings: Settings) -> bool:
    if settings.log_format != "auto":
        return settings.log_format == "json"
    return settings.env == "production"


class _Formatter(structlog.stdlib.ProcessorFormatter):
    """Renders log records; exceptions among their arguments lose their messages, which may quote personal data."""

    def format(self, record: logging.LogRecord) -> str:
        if record.name == "asyncio":
            # The lines after the first describe a task, with its exception's message.
            record = logging.makeLogRecord(record.__dict__)
            record.msg, record.args = record.getMessage().partition("\n")[0], ()
        elif isinstance(record.msg, BaseException) or _holds_exception(record.args):
            record = logging.makeLogRecord(record.__dict__)
            record.msg, record.args = _shown(record.msg), _shown_arguments(record.args)
        return super().format(record)


class _Shown(str):
    """A text that ``%r`` also shows without quotes."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


def _shown(value: Any) -> Any:
    return _Shown(safe_message(value)) if isinstance(value, BaseException) else value


def _holds_exception(arguments: Any) -> bool:
    if not arguments:
        return False
    values = arguments.values() if isinstance(arguments, Mapping) else arguments
    return any(isinstance(value, BaseException) for value in values)


def _shown_arguments(arguments: Any) -> Any:
    if isinstance(arguments, Mapping):
        return {name: _shown(value) for name, value in arguments.items()}
    return tuple(_shown(value) for value in arguments or ())


def _without_values(_logger: Any, _name: str, event: structlog.types.EventDict) -> structlog.types.EventDict:
    """Replace exceptions by their safe texts."""
    raised = event.pop("exc_info", None)
    if raised is True:
        raised = sys.exc_info()
    error = raised if isinstance(raised, BaseException) else raised[1] if isinstance(raised, tuple) else None
    if error is not None:
        event["exception"] = safe_traceback(error)
    for name, value in event.items():
        if isinstance(value, BaseException):
            event[name] = safe_message(value)
    return event


def _formatter(*, as_json: bool) -> _Formatter:
    renderer: structlog.types.Processor
    if as_json:
        renderer = structlog.processors.JSONRenderer()
    else:
        # No rich tracebacks: they print local variables, and those hold conversations.
        renderer = structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
        )
    return _Formatter(
        foreign_pre_chain=[
            structlog.stdlib.add_log_level,
            structlog.stdlib.add_logger_name,
            # Fields that callers of the standard library's loggers pass with extra=.
            structlog.stdlib.ExtraAdder(),
            structlog.processors.TimeStamper(fmt="iso", utc=True),
        ],
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, _without_values, renderer],
    )


def configure_logs(settings: Settings) -> logging.Handler:
    """Set up structlog and the standard library's logging for this process.

    Returns:
        The only handler, on stderr. Faust's worker clears the root logger, so its app must get this handler.
    """
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.stdlib.add_log_level,
            structlog.stdlib.add_logger_name,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    as_json = _use_json(settings)
    handler = EventHandler(
        as_json=as_json, ordinary_level=logging.INFO if settings.log_outcomes == "all" else logging.DEBUG
    )
    handler.setFormatter(_formatter(as_json=as_json))
    level = logging.getLevelName(settings.log_level)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(max(logging.INFO, level))
    for name in _OURS:
        logging.getLogger(name).setLevel(level)
    for name, quiet in _QUIET.items():
        logging.getLogger(name).setLevel(max(quiet, level))
    _replace_python_hooks()
    return handler


def logging_config() -> dict[str, object]:
    """A configuration for Faust that changes nothing: otherwise its worker would replace our handlers."""
    return {"version": 1, "disable_existing_loggers": False, "incremental": True}


def _replace_python_hooks() -> None:
    """Log warnings and uncaught exceptions without their texts: Python would print them with values to stderr."""
    warnings.showwarning = _log_warning
    # Keep a hook that other code has replaced already, for example a test runner.
    if sys.excepthook is sys.__excepthook__:
        sys.excepthook = _log_crash
    if threading.excepthook is threading.__excepthook__:
        threading.excepthook = _log_thread_crash
    if sys.unraisablehook is sys.__unraisablehook__:
        sys.unraisablehook = _log_unraisable


def _log_warning(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, file: Any = None, line: Any = None
) -> None:
    # Without the message: pydantic's warnings quote the input.
    _log.warning("python_warning", category=category.__name__, where=f"{filename}:{lineno}")


def _log_crash(_type: type[BaseException], error: BaseException, _traceback: TracebackType | None) -> None:
    if isinstance(error, KeyboardInterrupt):
        return
    _log.critical("process ends with an error", exc_info=error)


def _log_thread_crash(crash: threading.ExceptHookArgs) -> None:
    if crash.exc_value is not None and not isinstance(crash.exc_value, SystemExit):
        _log.error("thread ended with an error", exc_info=crash.exc_value)


def _log_unraisable(crash: sys.UnraisableHookArgs) -> None:
    if crash.exc_value is not None:
        _log.error("error while cleaning up", exc_info=crash.exc_value)
