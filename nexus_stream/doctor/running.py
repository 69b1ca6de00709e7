"""Run the checks: concurrently, each within its time, and none hidden by another that fails.

From: command.py. To: a `Report`. An exception nobody expected becomes a finding that names its class: its text may hold
what must not be shown. Every text of a report finally goes through redaction.py.
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

# One check: it asks a service that answered a moment ago a few questions.
CHECK_SECONDS: Final = 6.0
# The first contact, name resolution included.
REACH_SECONDS: Final = 4.0


class DaemonThreads(concurrent.futures.ThreadPoolExecutor):
    """Threads nobody waits for: a name server that does not answer must not keep the process alive."""

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> concurrent.futures.Future[T]:
        """Run it in a thread of its own."""
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
        """There is nothing to wait for."""


async def guarded(
    check: str,
    look: Awaitable[Sequence[Finding]],
    seconds: float = CHECK_SECONDS,
    *,
    severity: Severity = Severity.ERROR,
) -> list[Finding]:
    """The findings of one check, or one that says why there are none.

    Args:
        check: The id under which a failure is reported.
        look: The check.
        seconds: The longest it may take.
        severity: How bad it is not to know.
    """
    why = "This was not checked; the other findings stand."
    try:
        async with asyncio.timeout(seconds):
            return list(await look)
    except TimeoutError:
        made = note if severity is Severity.NOTE else error
        return [
            made(check, f"no answer within {seconds:g} s", why, "Run it again; look at the service's load and log.")
        ]
    except NexusError as failure:
        # Ours name the setting and the fix, and hold no data.
        return [Finding(check, severity, str(failure), why, "Do what the message says.")]
    except Exception as failure:
        found = f"the check itself failed: {type(failure).__name__}"
        return [Finding(check, severity, found, why, "Report it with `nexus --version` and the command.")]


def run(main: Coroutine[Any, Any, T]) -> tuple[T, float]:
    """Run the checks in an event loop of their own; with the seconds they took."""

    async def with_daemon_threads() -> T:
        asyncio.get_running_loop().set_default_executor(DaemonThreads())
        return await main

    started = time.monotonic()
    result = asyncio.run(with_daemon_threads())
    return result, time.monotonic() - started


AreaCheck = Callable[[], Awaitable[list[Finding]]]


async def run_areas(areas: dict[Area, AreaCheck], seconds: float) -> list[Finding]:
    """All areas at once."""
    looked = await asyncio.gather(
        *(guarded(f"{area}.complete", check(), seconds) for area, check in areas.items()),
    )
    return [finding for findings in looked for finding in findings]
