"""Run the checks concurrently, each with a time limit. A failed check does not hide other findings.

An unexpected exception becomes a finding with the name of its class. The exception's text may contain secrets, so it is
not shown. redaction.py cleans every text of a report at the end.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, Final, TypeVar

from nexus_stream.doctor.finding import Area, Finding, Severity, error, note
from nexus_stream.errors import NexusError

__all__ = ["CHECK_SECONDS", "REACH_SECONDS", "DaemonThreads", "guarded", "run"]

T = TypeVar("T")

# Time limit of one check: a few requests to a service that already answered.
CHECK_SECONDS: Final = 6.0
# Time limit of the first contact, name resolution included.
REACH_SECONDS: Final = 4.0


class DaemonThreads(concurrent.futures.ThreadPoolExecutor):
    """Daemon threads, so that a name server that does not answer cannot keep the process alive."""

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> concurrent.futures.Future[T]:
        """Run the function in its own thread."""
        future: concurrent.futures.Future[T] = concurrent.futures.Future()

        def call() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                future.set_result(fn(*args, **kwargs))
            except BaseException as failure:
                future.set_exception(failure)

        threading.Thread(target=call, daemon=True, name="doctor").start()
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Do nothing: daemon threads need no shutdown."""


async def guarded(
    check: str,
    look: Awaitable[Sequence[Finding]],
    seconds: float = CHECK_SECONDS,
    *,
    severity: Severity = Severity.ERROR,
) -> list[Finding]:
    """Return the findings of one check. If the check fails, return one finding with the reason.

    Args:
        check: The id for the finding about a failed check.
        look: The check.
        seconds: The time limit of the check.
        severity: The severity of a failed check.
    """
    why = "This check is missing. The other findings are valid."
    try:
        async with asyncio.timeout(seconds):
            return list(await look)
    except TimeoutError:
        made = note if severity is Severity.NOTE else error
        return [made(check, f"no answer within {seconds:g} s", why, "Run it again; check the service's load and log.")]
    except NexusError as failure:
        # Our own errors name the setting and the fix. They contain no data.
        return [Finding(check, severity, str(failure), why, "Do what the message says.")]
    except Exception as failure:
        found = f"the check itself failed: {type(failure).__name__}"
        return [Finding(check, severity, found, why, "Report it with `nexus --version` and the command.")]


def run(main: Coroutine[Any, Any, T]) -> tuple[T, float]:
    """Run the checks in a new event loop. Return the result and the duration in seconds."""

    async def with_daemon_threads() -> T:
        asyncio.get_running_loop().set_default_executor(DaemonThreads())
        return await main

    started = time.monotonic()
    result = asyncio.run(with_daemon_threads())
    return result, time.monotonic() - started


AreaCheck = Callable[[], Awaitable[list[Finding]]]


async def run_areas(areas: dict[Area, AreaCheck], seconds: float) -> list[Finding]:
    """Check all areas concurrently."""
    results = await asyncio.gather(
        *(guarded(f"{area}.complete", check(), seconds) for area, check in areas.items()),
    )
    return [finding for findings in results for finding in findings]
