"""Run actions to their end even if the browser disconnects, with an audit line before and after each action."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from nexus_stream.console.web.access import Identity
from nexus_stream.console.web.context import Context

__all__ = ["End", "recorded"]

_T = TypeVar("_T")

# The fields of the last audit line. The action fills them in as it proceeds.
End = dict[str, object]


async def recorded(
    context: Context, who: Identity, action: str, work: Callable[[End], Awaitable[_T]], **about: object
) -> _T:
    """Run the action to its end, even if the request is cancelled: a closed tab must not leave half an action.

    1. Record ``ended=began``. Crash before this step: nothing was done.
    2. Run the action. Crash during this step: the first line shows that the action may be partly done.
    3. Record the fields of `End`, or ``ended=interrupted``.

    Args:
        context: The context with the audit log. It keeps the action running.
        who: The user.
        action: The action's name in the audit log.
        work: The action.
        about: The objects of the action, for both lines.
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

    return await context.run_to_end(to_the_end())
