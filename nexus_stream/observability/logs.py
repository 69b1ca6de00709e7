"""Logs are events with fields, and hold no personal data: topic, partition and offset find the record.

JSON lines in production, readable ones in development. Third-party loggers are held at INFO or above: aiokafka at DEBUG
builds a record per call (16 % of a worker's time), and the anthropic SDK at DEBUG logs whole conversations.
"""

from __future__ import annotations

import hashlib
import logging
import sys

import structlog

from nexus_stream.settings import Settings

__all__ = ["configure_logs", "hashed", "logging_config"]

_QUIET = {
    "aiokafka": logging.WARNING,
    "faust": logging.WARNING,
    "mode": logging.WARNING,
    "anthropic": logging.INFO,
    "httpx": logging.WARNING,
    "httpcore": logging.WARNING,
    "aiohttp.access": logging.WARNING,
    "asyncio": logging.WARNING,
    # It reports every topic it may not create; ours are created by `nexus topics apply`.
    "faust.transport.drivers.aiokafka": logging.ERROR,
}


def hashed(identifier: str) -> str:
    """A session, fingerprint or tenant as logs may show it: stable, and not the identifier."""
    return hashlib.sha256(identifier.encode()).hexdigest()[:12]


def _use_json(settings: Settings) -> bool:
    if settings.log_format != "auto":
        return settings.log_format == "json"
    return settings.env == "production"


def _formatter(settings: Settings) -> structlog.stdlib.ProcessorFormatter:
    renderer: structlog.types.Processor
    if _use_json(settings):
        renderer = structlog.processors.JSONRenderer()
    else:
        # No rich tracebacks: they print local variables, and those hold conversations.
        renderer = structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
        )
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[
            structlog.stdlib.add_log_level,
            structlog.stdlib.add_logger_name,
            # Fields that the standard library's loggers were given with extra=.
            structlog.stdlib.ExtraAdder(),
            structlog.processors.TimeStamper(fmt="iso", utc=True),
        ],
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            *([structlog.processors.format_exc_info] if _use_json(settings) else []),
            renderer,
        ],
    )


def configure_logs(settings: Settings) -> logging.Handler:
    """Set up structlog and the standard library's logging for a process of ours.

    Returns:
        The one handler, on stderr: Faust's worker clears the root logger and must be given it again.
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
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_formatter(settings))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.log_level)
    for name, level in _QUIET.items():
        logging.getLogger(name).setLevel(max(level, logging.getLevelName(settings.log_level)))
    return handler


def logging_config() -> dict[str, object]:
    """For Faust, whose worker would otherwise install handlers of its own over ours."""
    return {"version": 1, "disable_existing_loggers": False, "incremental": True}
