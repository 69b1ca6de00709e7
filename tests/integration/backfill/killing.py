"""``nexus backfill`` with small batches, a quick pace and the SDK's strict validation. It kills itself at a point.

Run as ``python killing.py POINT ARGUMENTS…``. SIGKILL runs no handler and flushes nothing.
"""

from __future__ import annotations

import functools
import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from nexus_stream import cli
from nexus_stream.backfill import batches, command, run, store
from nexus_stream.kafka import sender

POINTS = (
    "loading",
    "loaded",
    "intended",
    "created",
    "opened",
    "watching",
    "half read",
    "settled",
    "read",
    "half sent",
    "sent",
    "deleted",
)
BATCH_REQUESTS = 5


def die(*_: object) -> None:
    """End the process like kill -9."""
    os.kill(os.getpid(), signal.SIGKILL)


def after(owner: Any, name: str, when: Callable[..., bool] = lambda *_: True) -> None:
    """Die right after this method has done its work."""
    original = getattr(owner, name)

    @functools.wraps(original)
    async def awaited(*args: Any, **options: Any) -> Any:
        result = await original(*args, **options)
        if when(*args):
            die()
        return result

    @functools.wraps(original)
    def called(*args: Any, **options: Any) -> Any:
        result = original(*args, **options)
        if when(*args):
            die()
        return result

    import inspect

    setattr(owner, name, awaited if inspect.iscoroutinefunction(original) else called)


def every(count: int) -> Callable[..., bool]:
    """Return a function that is True at its count-th call."""
    calls = iter(range(1, 1_000_000))
    return lambda *_: next(calls) == count


def arm(point: str) -> None:
    """Prepare to die at this point."""
    match point:
        case "loading":
            after(store.RunStore, "put_snapshot", every(3))
        case "loaded":
            after(command, "_load")
        case "intended":
            after(store.RunStore, "intend")
        case "created":
            after(batches.Batches, "create", every(2))
        case "opened":
            after(run.Run, "_mark_open", every(2))
        case "watching":
            after(batches.Batches, "retrieve")
        case "half read":
            after(store.RunStore, "spent", every(3))
        case "settled":
            after(run.Budget, "close")
        case "read":
            after(run.Reader, "read")
        case "half sent":
            after(sender.Sender, "send", every(3))
        case "sent":
            after(run.Run, "_send_ready", lambda one: bool(one._store.chunks("read")))
        case "deleted":
            after(batches.Batches, "delete")
        case "nowhere":
            pass
        case _:
            raise ValueError(point)


if __name__ == "__main__":
    run.Pace = functools.partial(  # type: ignore[misc,assignment]
        run.Pace, batch_requests=BATCH_REQUESTS, poll_seconds=0.05, unknown_seconds=1.0
    )
    command.create_client = functools.partial(command.create_client, strict=True)  # type: ignore[attr-defined]
    # One result in each transaction, so that a kill can happen between two results.
    command_point = sys.argv[1]
    import nexus_stream.backfill.reading as reading

    reading._PAGE = 1  # type: ignore[misc]
    arm(command_point)
    sys.argv = ["nexus", "backfill", *sys.argv[2:]]
    cli.main()
