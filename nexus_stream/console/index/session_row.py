"""Convert a changelog record of the session table to a row of the console's index.

From: a record of ``<app>-sessions-changelog`` (key = session key, value = session state JSON). To: table ``sessions``
of the index (store.py). Parsing is lenient on purpose: a state of a newer version, or a value that is not JSON, is
shown as far as it is readable. It does not stop the view.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nexus_stream.contracts.json_reading import items, json_object, mapping, number, text
from nexus_stream.contracts.prospect import Objecion
from nexus_stream.contracts.session_key import parse_session_key

__all__ = ["OBJECTIONS", "UNREADABLE", "ChangelogRecord", "SessionRow", "facets", "fold", "state_of"]

# The status of a row whose value is not a JSON object or has no status.
UNREADABLE = "unreadable"

# The objections in the index. store.py has a partial index for each.
OBJECTIONS = tuple(objection.value for objection in Objecion)

_SQLITE_INTEGER_MAX = 2**63 - 1


@dataclass(frozen=True, slots=True)
class ChangelogRecord:
    """One record from the broker. ``value`` None is a tombstone. ``timestamp_ms`` is the broker's time."""

    partition: int
    offset: int
    timestamp_ms: int
    key: bytes
    value: bytes | None


@dataclass(frozen=True, slots=True)
class SessionRow:
    """The fields for the list, its search and its filters, and the state as the bytes of the changelog.

    ``fingerprints`` is not a column: store.py has a table for them.
    """

    key: bytes
    tenant_id: str
    session_id: str
    status: str
    nombre: str | None
    email: str | None
    telefono: str | None
    fingerprint: str | None
    momento: str | None
    arquetipo: str | None
    objeciones: str
    nivel_interes: float | None
    extractor: str | None
    turns: int
    first_seen_ms: int
    last_seen_ms: int
    partition: int
    offset: int
    recorded_at_ms: int
    state: bytes
    search_text: str
    fingerprints: tuple[str, ...] = ()

    @property
    def facets(self) -> tuple[tuple[str, str], ...]:
        """The (facet, value) pairs for counts and filters of the list."""
        return facets(self.status, self.momento, self.arquetipo, self.extractor, self.objeciones)

    @classmethod
    def from_record(cls, record: ChangelogRecord) -> SessionRow:
        """Convert a record that is not a tombstone."""
        value = record.value or b""
        state = state_of(value)
        prospect = mapping(state.get("prospect"))
        tenant_id, session_id = _names(record.key)
        fingerprints = [text for text in items(state.get("fingerprints")) if isinstance(text, str)]
        nombre, email, telefono = (text(prospect.get(name)) for name in ("nombre", "email", "telefono"))
        return cls(
            key=record.key,
            tenant_id=tenant_id,
            session_id=session_id,
            status=text(state.get("status")) or UNREADABLE,
            nombre=nombre,
            email=email,
            telefono=telefono,
            fingerprint=fingerprints[-1] if fingerprints else None,
            momento=text(prospect.get("momento_optimo")),
            arquetipo=text(prospect.get("arquetipo")),
            objeciones=",".join(text for text in items(prospect.get("objeciones")) if isinstance(text, str)),
            nivel_interes=number(prospect.get("nivel_interes")),
            extractor=text(mapping(state.get("extraction")).get("extractor")),
            turns=_integer(state.get("turns")),
            first_seen_ms=_integer(state.get("first_seen_ms")) or record.timestamp_ms,
            last_seen_ms=_integer(state.get("last_seen_ms")) or record.timestamp_ms,
            partition=record.partition,
            offset=record.offset,
            recorded_at_ms=record.timestamp_ms,
            state=value,
            search_text="\n".join(
                fold(text) for text in (tenant_id, session_id, nombre, email, telefono, *fingerprints) if text
            ),
            fingerprints=tuple(fingerprints),
        )


def facets(
    status: str, momento: str | None, arquetipo: str | None, extractor: str | None, objeciones: str
) -> tuple[tuple[str, str], ...]:
    """Return the (facet, value) pairs of a row."""
    named = {"status": status, "momento": momento, "arquetipo": arquetipo, "extractor": extractor}
    return (
        *((facet, value) for facet, value in named.items() if value is not None),
        *(("objecion", value) for value in set(objeciones.split(",")) if value in OBJECTIONS),
    )


def state_of(value: bytes) -> Mapping[str, Any]:
    """The state as a mapping, empty if the bytes are not a JSON object."""
    return json_object(value)


def fold(text: str) -> str:
    """Normalise text for search: without case and accents."""
    decomposed = unicodedata.normalize("NFKD", text)
    return "".join(char for char in decomposed if not unicodedata.combining(char)).casefold().replace("\x00", "")


def _names(key: bytes) -> tuple[str, str]:
    try:
        return parse_session_key(key)
    except UnicodeDecodeError:
        return "", key.decode("utf-8", "backslashreplace")


def _integer(value: Any) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return max(0, min(value, _SQLITE_INTEGER_MAX))
    return 0
