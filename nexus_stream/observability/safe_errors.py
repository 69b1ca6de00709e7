"""Exceptions for logs: their type and place, without the values that their messages may quote.

``ValueError: invalid literal: 'María'`` is as useful without its message, because the traceback shows the line. Only
messages that cannot hold personal data are kept.
"""

from __future__ import annotations

import traceback
from types import TracebackType

from nexus_stream.errors import NexusError

__all__ = ["safe_message", "safe_traceback"]

_MAX_FRAMES = 30
_MAX_ERRORS = 10
# The messages of these errors name modules, attributes and variables of the code.
_ABOUT_CODE = (ImportError, NameError, AttributeError, NotImplementedError)


def safe_message(error: BaseException) -> str:
    """The message of an exception if it cannot hold personal data; otherwise the name of its type.

    Our own messages hold none (errors.py). From a system error the text of its error number is kept, from a PostgreSQL
    error the SQLSTATE.
    """
    if isinstance(error, NexusError):
        return str(error)
    name = type(error).__name__
    if isinstance(error, _ABOUT_CODE):
        return f"{name}: {error}"
    if isinstance(error, OSError) and error.strerror and error.errno:
        return f"{name}: {error.strerror}"
    sqlstate = getattr(error, "sqlstate", None)
    if isinstance(sqlstate, str) and len(sqlstate) == 5:
        return f"{name}: SQLSTATE {sqlstate}"
    return name


def safe_traceback(error: BaseException) -> str:
    """Frames with their source lines and `safe_message`, for the error and its causes, the first cause first."""
    chain: list[tuple[BaseException, str]] = []
    seen: set[int] = set()
    found: BaseException | None = error
    link = ""
    while found is not None and id(found) not in seen and len(chain) < _MAX_ERRORS:
        seen.add(id(found))
        chain.append((found, link))
        if found.__cause__ is not None:
            found, link = found.__cause__, "The above was the direct cause of:"
        elif found.__context__ is not None and not found.__suppress_context__:
            found, link = found.__context__, "While handling the above, there was:"
        else:
            break
    blocks: list[str] = []
    for one, following in reversed(chain):
        blocks.append(_block(one, one.__traceback__))
        if following:
            blocks.append(following)
    return "\n".join(blocks)


def _block(error: BaseException, tb: TracebackType | None, depth: int = 0) -> str:
    # Source lines hold only code. The frames' variables are not read.
    frames = "".join(traceback.format_list(traceback.extract_tb(tb, limit=-_MAX_FRAMES)))
    name = type(error).__name__
    message = safe_message(error)
    shown = message if message.startswith(name) else f"{name}: {message}"
    text = f"Traceback (most recent call last):\n{frames}{shown}"
    if isinstance(error, BaseExceptionGroup) and depth < 3:
        parts = [_block(part, part.__traceback__, depth + 1) for part in error.exceptions[:_MAX_ERRORS]]
        text = "\n".join([text, *(f"-- one of the group:\n{part}" for part in parts)])
    return text
