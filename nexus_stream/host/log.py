"""The one way to a logger: ``_log = get_logger(__name__)``, then ``_log.info("event_name", field=value)``.

A process that serves calls `configure_logs`. Everything else, a command or a test, gets the standard library's logging:
what Python does by default is shown on stderr from WARNING on, never on stdout.
"""

from __future__ import annotations

import structlog

__all__ = ["get_logger"]

if not structlog.is_configured():
    structlog.configure(
        processors=[structlog.stdlib.filter_by_level, structlog.stdlib.render_to_log_kwargs],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
    )


def get_logger(name: str) -> structlog.stdlib.BoundLogger:
    """The logger of a module.

    Args:
        name: ``__name__``.
    """
    logger: structlog.stdlib.BoundLogger = structlog.get_logger(name)
    return logger
