"""Helpers of the operators' commands."""

from __future__ import annotations

import asyncio
import getpass
import logging
import socket
from collections.abc import Callable, Coroutine, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

import click

from nexus_stream.contracts.moments import parse_moment
from nexus_stream.errors import RetryableError

__all__ = ["check_moment", "operator", "quiet_broker_client", "read_moment", "run", "with_options"]

_T = TypeVar("_T")
_Command = TypeVar("_Command", bound=Callable[..., Any])


def operator() -> str:
    """The user of this command: ``user@host``."""
    try:
        user = getpass.getuser()
    except (OSError, KeyError):
        # A container's user id without a name.
        user = "unknown"
    return f"{user}@{socket.gethostname()}"


def with_options(*options: Callable[[_Command], _Command]) -> Callable[[_Command], _Command]:
    """Return a decorator that gives a command these options, in this order."""

    def decorate(function: _Command) -> _Command:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


def quiet_broker_client() -> None:
    """Silence aiokafka. While a broker is down, it logs several errors per attempt; our own message is enough."""
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)


def run(work: Coroutine[Any, Any, _T], *, passing: Sequence[type[Exception]] = (RetryableError,), hint: str = "") -> _T:
    """Run a command's work. A temporary error ends the command with its message alone.

    Args:
        work: The work.
        passing: The temporary errors.
        hint: The next step, added to their messages.
    """
    quiet_broker_client()
    try:
        return asyncio.run(work)
    except tuple(passing) as error:
        raise click.ClickException(f"{error} {hint}".rstrip()) from error


def read_moment(_context: click.Context, _parameter: click.Parameter, text: str | None) -> datetime | None:
    """An option's callback: read the moment that the text names."""
    try:
        return None if text is None else parse_moment(text, datetime.now(UTC))
    except (ValueError, OverflowError) as error:
        raise click.BadParameter(str(error)) from None


def check_moment(context: click.Context, parameter: click.Parameter, text: str | None) -> str | None:
    """An option's callback: check the moment, and return the text unchanged."""
    read_moment(context, parameter, text)
    return text
