"""Format letters as text and JSON lines for an operator's terminal.

A list contains no personal data: sessions are hashed as in the logs. Values are redacted unless the operator reveals
them. All text from a sender is escaped, so that a letter cannot control the terminal.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from nexus_stream.contracts.headers import (
    ATTEMPTS_HEADER,
    ERROR_CLASS_HEADER,
    ERROR_HEADER,
    FAILED_AT_HEADER,
    LETTER_ID_HEADER,
    ORIGIN_OFFSET_HEADER,
    ORIGIN_PARTITION_HEADER,
    ORIGIN_TIMESTAMP_HEADER,
    ORIGIN_TOPIC_HEADER,
    REASON_HEADER,
    REDRIVE_HEADER,
    REDRIVE_ID_HEADER,
)
from nexus_stream.dead_letters.filters import session_key_of
from nexus_stream.dead_letters.letter import Letter
from nexus_stream.dead_letters.marks import History
from nexus_stream.observability.logs import hashed

__all__ = ["LetterRow", "described_letter", "escaped", "json_line", "table"]

# nexus-stream wrote their names and values. The values contain no personal data.
_SAFE_HEADERS = frozenset(
    {
        LETTER_ID_HEADER,
        REASON_HEADER,
        ERROR_CLASS_HEADER,
        ERROR_HEADER,
        ATTEMPTS_HEADER,
        ORIGIN_TOPIC_HEADER,
        ORIGIN_PARTITION_HEADER,
        ORIGIN_OFFSET_HEADER,
        ORIGIN_TIMESTAMP_HEADER,
        FAILED_AT_HEADER,
        REDRIVE_HEADER,
        REDRIVE_ID_HEADER,
    }
)
# Shown as hashes, as in the logs, so that an operator can find the letter there.
_IDENTIFIERS = frozenset({"sessionId", "session_id", "fingerprint", "tenant_id"})
_ROLES = frozenset({"user", "assistant", "system"})
_FIELD_NAME = re.compile(r"[A-Za-z_][A-Za-z_.-]{0,39}")
_MAX_ITEMS = 20
_MAX_DEPTH = 12


def escaped(text: str) -> str:
    """Escape every invisible character: control, direction, zero-width characters and spaces other than the blank."""
    return "".join(
        character
        if character == " " or unicodedata.category(character)[0] not in "CZ"
        else character.encode("unicode_escape").decode()
        for character in text
    )


@dataclass(frozen=True, slots=True)
class LetterRow:
    """The row of one letter in a list. It does not contain the letter's value."""

    id: str
    reason: str
    error_class: str
    failed_at: str
    attempts: int
    redrives_before: int
    origin_topic: str
    state: str
    redriven: int
    last_by: str
    last_at: str | None
    copies: int
    size_bytes: int
    session: str | None

    @classmethod
    def of(cls, letter: Letter, history: History) -> LetterRow:
        """Make the row of a letter."""
        key = session_key_of(letter)
        return cls(
            id=letter.id,
            reason=letter.reason,
            error_class=letter.error_class,
            failed_at=letter.failed_at.isoformat(timespec="seconds"),
            attempts=letter.attempts,
            redrives_before=letter.redrives_before,
            origin_topic=letter.origin_topic,
            state=history.state.value,
            redriven=history.redriven,
            last_by=history.last_by,
            last_at=None if history.last_at is None else history.last_at.isoformat(timespec="seconds"),
            copies=history.copies,
            size_bytes=letter.size_bytes,
            session=None if key is None else hashed(key),
        )


def json_line(row: LetterRow) -> str:
    """Return one line of ASCII JSON with every field of `LetterRow`."""
    # json escapes non-ASCII characters; orjson cannot.
    import dataclasses
    import json

    return json.dumps(dataclasses.asdict(row))


_COLUMNS = ("ID", "REASON", "FAILED", "TRIES", "STATE", "BYTES", "SESSION")


def table(rows: Sequence[LetterRow]) -> Iterator[str]:
    """Yield aligned lines, first the heading."""
    lines = [_COLUMNS, *(_cells(row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(_COLUMNS))]
    for line in lines:
        yield "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()


def _cells(row: LetterRow) -> tuple[str, ...]:
    state = row.state if row.redriven < 2 else f"{row.state} ({row.redriven} times)"
    if row.redrives_before:
        state += f", after {row.redrives_before} redrive{'s' if row.redrives_before > 1 else ''}"
    return (
        escaped(row.id),
        escaped(row.reason),
        row.failed_at.replace("+00:00", "Z"),
        str(row.attempts),
        state,
        str(row.size_bytes),
        row.session or "-",
    )


def described_letter(letter: Letter, history: History, *, reveal: bool) -> Iterator[str]:
    """Yield the lines that describe one letter in full.

    Args:
        letter: The letter.
        history: The letter's history.
        reveal: Show key, value and all headers in clear text. Default: only names, types and lengths.
    """
    yield f"letter       {escaped(letter.id)}"
    yield f"state        {_state_line(history)}"
    yield f"stored at    partition {letter.partition}, offset {letter.offset} of the dead-letter topic"
    if history.copies > 1:
        yield f"copies       {history.copies}: the worker stopped after writing the letter and before the commit"
    yield f"key          {_bytes_line(letter.key, reveal)}"
    yield "headers"
    for name, raw in letter.headers:
        text = raw.decode("utf-8", "backslashreplace")
        shown = escaped(text) if reveal or name in _SAFE_HEADERS else f"({len(raw)} bytes)"
        yield f"  {escaped(name) if reveal else _field(name)}: {shown}"
    yield f"value        {len(letter.value or b'')} bytes, digest {letter.digest}"
    yield from (f"  {line}" for line in _value_lines(letter.value, reveal))
    if not reveal:
        yield "Texts are hidden. --reveal shows them, with personal data."


def _state_line(history: History) -> str:
    if history.last_at is None:
        return history.state.value
    times = f" {history.redriven} times, last" if history.redriven > 1 else ""
    return (
        f"{history.state.value}{times} at {history.last_at.isoformat(timespec='seconds')} by {escaped(history.last_by)}"
    )


def _bytes_line(raw: bytes | None, reveal: bool) -> str:
    if raw is None:
        return "none"
    if reveal:
        return escaped(raw.decode("utf-8", "backslashreplace"))
    return f"{len(raw)} bytes, hashed as a session: {hashed(raw.decode('utf-8', 'backslashreplace'))}"


def _value_lines(raw: bytes | None, reveal: bool) -> Iterable[str]:
    if raw is None:
        return ["none"]
    try:
        value: Any = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        if reveal:
            # Keep the line breaks, escape each line.
            return [escaped(line) for line in raw.decode("utf-8", "backslashreplace").split("\n")]
        return [f"not JSON at line {error.lineno}, column {error.colno}: {_kind_of_bytes(raw)}"]
    if reveal:
        return [
            _escaped_indented(line) for line in orjson.dumps(value, option=orjson.OPT_INDENT_2).decode().split("\n")
        ]
    return list(_shape(value, "", 0))


def _escaped_indented(line: str) -> str:
    text = line.lstrip(" ")
    return " " * (len(line) - len(text)) + escaped(text)


def _kind_of_bytes(raw: bytes) -> str:
    try:
        return f"UTF-8 text, {len(raw.decode())} characters"
    except UnicodeDecodeError as error:
        return f"not UTF-8 from byte {error.start} on"


def _shape(value: Any, name: str, depth: int) -> Iterator[str]:
    """Yield the names, types and lengths of a JSON value, one per line, without its texts and numbers."""
    indent = "  " * depth
    label = f"{indent}{name}: " if name else indent
    if isinstance(value, (dict, list)) and depth >= _MAX_DEPTH:
        yield f"{label}nested deeper"
    elif isinstance(value, dict):
        yield f"{label}object, {len(value)} fields"
        for position, (field_name, item) in enumerate(value.items()):
            if position == _MAX_ITEMS:
                yield f"{indent}  and {len(value) - _MAX_ITEMS} more"
                break
            yield from _shape(_identified(field_name, item), _field(field_name), depth + 1)
    elif isinstance(value, list):
        yield f"{label}list, {len(value)} items"
        for position, item in enumerate(value[:_MAX_ITEMS]):
            yield from _shape(item, str(position), depth + 1)
        if len(value) > _MAX_ITEMS:
            yield f"{indent}  and {len(value) - _MAX_ITEMS} more"
    elif isinstance(value, _Shown):
        yield f"{label}{value.text}"
    elif isinstance(value, str):
        yield f"{label}text, {len(value)} characters"
    elif value is None or isinstance(value, bool):
        yield f"{label}{orjson.dumps(value).decode()}"
    else:
        yield f"{label}number"


@dataclass(frozen=True, slots=True)
class _Shown:
    text: str


def _identified(field_name: str, item: Any) -> Any:
    if not isinstance(item, str):
        return item
    if field_name in _IDENTIFIERS and item:
        return _Shown(f"text, {len(item)} characters, {hashed(item)} in the logs")
    if field_name == "role" and item in _ROLES:
        return _Shown(item)
    return item


def _field(name: str) -> str:
    # A name that is not a plain word may be personal data.
    return name if _FIELD_NAME.fullmatch(name) else f"(a name of {len(name)} characters)"
