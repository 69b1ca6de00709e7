"""Whether a call is still worth paying for, asked at the last moment before it is made.

From: the enricher's retry loop, which knows whose the conversation is. To: whoever is about to pay (claude/calls.py).
Between the two a conversation may wait for long, for a slot, the allowance or the breaker; meanwhile its partition may
go to another worker, which asks for itself, or its session be erased.
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
    """What is called inside, and in tasks begun inside, is worth paying for as long as this says so."""
    token = _is_wanted.set(is_wanted)
    try:
        yield
    finally:
        _is_wanted.reset(token)


def require_wanted() -> None:
    """Raise unless somebody still wants the answer; without a word on it, somebody does.

    Raises:
        NotWantedError: nobody does.
    """
    is_wanted = _is_wanted.get()
    if is_wanted is not None and not is_wanted():
        raise NotWantedError("the conversation is another worker's by now, or erased")
