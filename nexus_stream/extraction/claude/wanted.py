"""Check, right before a paid call, whether its answer is still needed.

The enricher's retry loop knows that; claude/calls.py makes the check. Between the two, a conversation may wait long
for a slot, the allowance or the breaker. Meanwhile its partition may move to another worker, which makes its own call,
or its session may be erased.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from nexus_stream.errors import NotWantedError

__all__ = ["require_wanted", "wanted_while"]

_is_wanted: ContextVar[Callable[[], bool] | None] = ContextVar("is_wanted", default=None)


@contextmanager
def wanted_while(is_wanted: Callable[[], bool]) -> Iterator[None]:
    """Apply ``is_wanted`` to calls made inside this block, and in tasks started inside it."""
    token = _is_wanted.set(is_wanted)
    try:
        yield
    finally:
        _is_wanted.reset(token)


def require_wanted() -> None:
    """Raise if the answer is not needed any more. Outside `wanted_while` it is always needed.

    Raises:
        NotWantedError: the answer is not needed any more.
    """
    is_wanted = _is_wanted.get()
    if is_wanted is not None and not is_wanted():
        raise NotWantedError("another worker has the conversation now, or it was erased")
