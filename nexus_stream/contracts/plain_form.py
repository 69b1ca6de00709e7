"""Read a site's JSON into the plain form of a conversation: turns with text, ids that are ids, metadata as an object.

One reader for HTTP and Kafka. It refuses only what has no turn with text, or no session. Everything else that cannot be
used is left out and noticed. Pure.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from nexus_stream.contracts.cutting import Cut
from nexus_stream.contracts.limits import Limits
from nexus_stream.contracts.message_forms import (
    MAX_EXACT_FLOAT,
    PlainTurn,
    as_list,
    count_elements,
    number_text,
    read_turns,
)
from nexus_stream.contracts.placeholders import is_no_tenant, is_placeholder
from nexus_stream.contracts.refusal_codes import RefusalCode
from nexus_stream.errors import DecodeError, Reason

__all__ = [
    "IGNORED_FIELDS",
    "MAX_IDENTITY_CHARS",
    "RESERVED_FINGERPRINT_PREFIX",
    "WHYS",
    "Noticed",
    "PlainForm",
    "plain_form",
    "require_few_elements",
]

# In prospect_tracking a fingerprint with this prefix means a session without a fingerprint.
RESERVED_FINGERPRINT_PREFIX = "session:"
MAX_IDENTITY_CHARS = 256
NOT_EMPTY = "must not be empty"
# A chat never has so many messages and parts, also with 99 parts of tools and data a turn: such a body is made to cost
# time.
_MAX_ELEMENTS = 100_000
# The same bound before parsing: braces and brackets of the whole body, with the tools' answers in it.
_MAX_BRACKETS = 400_000
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f]")

Why = Literal["placeholder", "too_long", "invalid"]
IGNORED_FIELDS: Final = ("session_id", "fingerprint", "tenant_id", "identity", "metadata")
WHYS: Final[tuple[Why, ...]] = ("placeholder", "too_long", "invalid")


@dataclass(slots=True)
class Noticed:
    """What one reader left out, ignored or cut. Counts and names, never a value.

    Attributes:
        left_out: Turns and parts that were not read, by kind.
        ignored: Fields that were read as missing, and why.
        cut: What this reader cut.
    """

    left_out: Counter[str] = field(default_factory=Counter)
    ignored: dict[str, Why] = field(default_factory=dict)
    cut: Cut = Cut()  # noqa: RUF009 - frozen


@dataclass(frozen=True, slots=True)
class PlainForm:
    """A conversation in the plain form. ``metadata`` is as sent, without the ids that are none."""

    turns: list[PlainTurn]
    session_id: str
    fingerprint: str | None
    metadata: dict[str, Any]


def plain_form(data: object, limits: Limits, noticed: Noticed) -> PlainForm:
    """Read parsed JSON.

    Args:
        data: The body.
        limits: The limits; turns are not cut here.
        noticed: Gets what is left out or ignored.

    Raises:
        DecodeError: no object, no messages, too many elements, no turn with text, or no usable session id.
    """
    if not isinstance(data, dict):
        raise DecodeError("not a conversation: the value", reason=Reason.WRONG_SHAPE, code=RefusalCode.BODY_NOT_OBJECT)
    messages = _messages(as_list(data.get("messages")))
    session_id = _session_id(data, limits, noticed)
    turns = list(read_turns(messages, noticed.left_out))
    if not turns:
        raise DecodeError(
            "no turn of the user or the assistant holds text",
            reason=Reason.NO_TEXT,
            code=RefusalCode.NO_TEXT,
            details={"messages": "no turn of the user or the assistant holds text"},
        )
    fingerprint = _optional_id(data.get("fingerprint"), "fingerprint", limits.id_chars, noticed)
    return PlainForm(turns, session_id, fingerprint, _metadata(data.get("metadata"), limits, noticed))


def require_few_elements(value: bytes) -> None:
    """Refuse, before it is parsed, what could hold very many objects.

    Raises:
        DecodeError: too many.
    """
    if value.count(b"{") + value.count(b"[") > _MAX_BRACKETS:
        raise _too_many_elements()


def _messages(messages: object) -> list[Any]:
    if messages is None or messages == []:
        problem = "Field required" if messages is None else NOT_EMPTY
        raise _wrong("messages", problem, RefusalCode.MESSAGES_REQUIRED)
    if not isinstance(messages, list):
        raise _wrong("messages", "must be an array", RefusalCode.MESSAGES_REQUIRED)
    if count_elements(messages) > _MAX_ELEMENTS:
        raise _too_many_elements()
    return messages


def _session_id(data: dict[str, Any], limits: Limits, noticed: Noticed) -> str:
    """The first of ``sessionId``, ``session_id`` and ``id`` that is an id. The AI SDK's useChat calls its chat ``id``.

    Unlike the other ids it has no default: two strangers must never share a session.
    """
    problem: Why | None = None
    for name in ("sessionId", "session_id", "id"):
        text, why = _id_text(data.get(name), limits.id_chars)
        problem = problem or why
        if text is not None:
            if problem is not None:
                noticed.ignored["session_id"] = problem
            return text
    match problem:
        case None:
            raise _wrong("sessionId", "Field required", RefusalCode.SESSION_ID_REQUIRED)
        case "placeholder":
            raise _wrong("sessionId", "is a placeholder, no id", RefusalCode.SESSION_ID_PLACEHOLDER)
        case "too_long":
            problem_text = f"at most {limits.id_chars} characters (NEXUS_MAX_ID_CHARS)"
            raise _wrong("sessionId", problem_text, RefusalCode.SESSION_ID_TOO_LONG)
        case "invalid":
            problem_text = "must be a number, or text without control characters"
            raise _wrong("sessionId", problem_text, RefusalCode.SESSION_ID_INVALID)


def _optional_id(value: object, name: str, max_chars: int, noticed: Noticed) -> str | None:
    """An id that may be missing. What is no id is ignored: a lead must not be lost for it."""
    text, problem = _id_text(value, max_chars)
    if text is not None and name == "fingerprint" and text.startswith(RESERVED_FINGERPRINT_PREFIX):
        text, problem = None, "invalid"
    if problem is not None:
        noticed.ignored[name] = problem
    return text


def _id_text(value: object, max_chars: int) -> tuple[str | None, Why | None]:
    """The id, or why there is none; neither if it is missing."""
    if value is None or (isinstance(value, str) and not value.strip()):
        return None, None
    if isinstance(value, bool) or value in ({}, []):
        # What an unset variable becomes: a promise that was not awaited, an empty object of PHP.
        return None, "placeholder"
    if isinstance(value, float) and math.isfinite(value) and abs(value) >= MAX_EXACT_FLOAT:
        # Two ids may have become this number.
        return None, "invalid"
    if isinstance(value, int | float):
        value = number_text(value)
    if not isinstance(value, str):
        return None, "invalid"
    if len(value) > max_chars:
        return None, "too_long"
    if _UNPRINTABLE.search(value):
        return None, "invalid"
    return (None, "placeholder") if is_placeholder(value) else (value, None)


def _metadata(value: object, limits: Limits, noticed: Noticed) -> dict[str, Any]:
    if not isinstance(value, dict):
        if value is not None and value != []:
            noticed.ignored["metadata"] = "invalid"
        return {}
    metadata = value
    for key in ("tenant_id", "identity"):
        if metadata.get(key) is not None:
            text, problem = _metadata_id(metadata[key], key, limits)
            metadata = {**metadata, key: text}
            if problem is not None:
                noticed.ignored[key] = problem
    return metadata


def _metadata_id(value: object, key: str, limits: Limits) -> tuple[object, Why | None]:
    if key == "identity":
        return _id_text(value, min(limits.id_chars, MAX_IDENTITY_CHARS))
    if value in ({}, []) or isinstance(value, bool) or (isinstance(value, str) and is_no_tenant(value)):
        return None, "placeholder"
    # Any other tenant is checked with the record: a wrong one must not become no tenant.
    return (str(value) if isinstance(value, int) else value), None


def _wrong(name: str, problem: str, code: RefusalCode) -> DecodeError:
    return DecodeError(
        f"not a conversation: {name}",
        reason=Reason.WRONG_SHAPE,
        code=code,
        details={name: problem},
    )


def _too_many_elements() -> DecodeError:
    return DecodeError(
        "too many messages, parts or objects",
        reason=Reason.TOO_LARGE,
        code=RefusalCode.TOO_MANY_ELEMENTS,
        details={"messages": f"at most {_MAX_ELEMENTS} messages and parts"},
    )
