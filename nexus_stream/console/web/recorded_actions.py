"""Actions that go on when their browser leaves, each with a line in the audit log before it and after it.

From: views_letters.py, views_erase.py, export.py and api.py. To: audit.py.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from nexus_stream.console.web.access import Identity
from nexus_stream.console.web.context import Context

__all__ = ["End", "audited"]

_T = TypeVar("_T")

# What the line at the end says; whoever works fills it in as far as they get.
End = dict[str, object]


async def audited(
    context: Context, who: Identity, action: str, work: Callable[[End], Awaitable[_T]], **about: object
) -> _T:
    """Work to the end, also when the request is cancelled meanwhile: a closed tab must not leave half an action.

    1. Note ``ended=began``. Crash before: nothing was done.
    2. Work. Crash meanwhile: the first line says that something may be done.
    3. Note what the work has put into its `End`, or ``ended=interrupted``.

    Args:
        context: Has the audit log; keeps the work alive.
        who: Acts.
        action: Its name in the audit log.
        work: Does it.
        about: What on, for both lines.
    """

    async def note(**details: object) -> None:
        await context.audit.write_down(who.name, who.role, action, **about, **details)

    async def to_the_end() -> _T:
        end: End = {}
        await note(ended="began")
        try:
            result = await work(end)
            end.setdefault("ended", "complete")
            return result
        finally:
            await note(**{"ended": "interrupted", **end})

    return await context.keep_going(to_the_end())
