"""What each page shows: from a row or rows of the index to the values its template names.

From: queries.py and the read model's freshness. To: templates/. Knows nothing of HTTP, so tests render pages alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

from jinja2 import Environment

from nexus_stream.console.queries import Cursor, Page, SessionFilter
from nexus_stream.console.read_model import Freshness
from nexus_stream.console.rendering import ago, pretty_json
from nexus_stream.console.session_row import UNREADABLE, state_of
from nexus_stream.console.texts import Translate, translator
from nexus_stream.contracts.prospect import Momento

__all__ = ["Pages", "list_url"]

MOMENTOS = tuple(momento.value for momento in Momento)
# Shown first and in this order; whatever else the table holds follows.
STATUSES = ("enriched", "waiting", "dead", "erased", UNREADABLE)
KNOWN_STATE_VERSION = 1

_PROSPECT_FIELDS = (
    "nombre",
    "email",
    "telefono",
    "ocupacion",
    "nivel_interes",
    "momento_optimo",
    "arquetipo",
    "objeciones",
)
_COUNTERS = ("snapshots", "duplicates", "calls", "input_tokens", "output_tokens", "cost_usd")


@dataclass(frozen=True, slots=True)
class _Fact:
    """One line of a definition list. ``kind`` chooses how the template shows the value: text, time, list or code."""

    label: str
    value: Any
    kind: str = "text"


class Pages:
    """Renders the pages in one language."""

    def __init__(self, environment: Environment, language: str = "en") -> None:
        self._environment = environment
        self._t: Translate = translator(language)

    def sessions(
        self,
        page: Page,
        counts: Mapping[str, int],
        session_filter: SessionFilter,
        after: Cursor | None,
        freshness: Freshness,
        now_ms: int,
    ) -> str:
        """The list."""
        statuses = [name for name in STATUSES if counts.get(name)] + sorted(counts.keys() - set(STATUSES))
        if session_filter.status is not None and session_filter.status not in statuses:
            statuses.append(session_filter.status)
        # The counts are of the whole table: beside a search they would be read as its result.
        is_counted = not session_filter.text and session_filter.momento is None
        tabs: list[tuple[str | None, str, int]] = [(None, self._t("sessions.all"), sum(counts.values()))]
        tabs += [(name, self._status(name), counts.get(name, 0)) for name in statuses]
        return self._render(
            "sessions.html",
            freshness,
            now_ms,
            here=list_url(session_filter, after),
            rows=page.rows,
            filter=session_filter,
            is_filtered=session_filter != SessionFilter(),
            is_first=after is None,
            momentos=MOMENTOS,
            tabs=[
                {
                    "label": label,
                    "count": count if is_counted else None,
                    "status": name,
                    "url": list_url(SessionFilter(session_filter.text, name, session_filter.momento)),
                    "is_current": name == session_filter.status,
                }
                for name, label, count in tabs
            ],
            first_url=list_url(session_filter),
            next_url=page.next_cursor and list_url(session_filter, page.next_cursor),
        )

    def session(self, row: Mapping[str, Any], url: str, changelog_topic: str, freshness: Freshness, now_ms: int) -> str:
        """One session; ``row`` is its row with all columns."""
        state = state_of(row["state"])
        prospect, extraction = _mapping(state, "prospect"), _mapping(state, "extraction")
        version = state.get("state_version")
        return self._render(
            "session.html",
            freshness,
            now_ms,
            here=url,
            row=row,
            is_readable=bool(state),
            newer_version=version if isinstance(version, int) and version > KNOWN_STATE_VERSION else None,
            dead=_mapping(state, "dead") or None,
            prospect_facts=[self._prospect_fact(name, prospect.get(name)) for name in _PROSPECT_FIELDS],
            place_facts=self._place(row, state, changelog_topic),
            extraction_facts=self._extraction(state, extraction),
            counters=[
                (self._t(f"counter.{name}"), value)
                for name in _COUNTERS
                if (value := _mapping(state, "counters").get(name)) is not None
            ],
            signals=[signal for signal in _list(extraction, "signals") if isinstance(signal, dict)],
            state_text=pretty_json(row["state"]),
            state_bytes=len(row["state"]),
        )

    def error(self, status: int, freshness: Freshness, now_ms: int) -> str:
        """A page that says what went wrong and where to go."""
        return self._render("error.html", freshness, now_ms, here="/", status=status)

    def _render(self, template: str, freshness: Freshness, now_ms: int, *, here: str, **values: Any) -> str:
        def since(milliseconds: int) -> str:
            return ago(milliseconds, now_ms, self._t)

        return self._environment.get_template(template).render(
            freshness=freshness, here=here, since=since, status_label=self._status, **values
        )

    def _status(self, name: str) -> str:
        # A newer enricher may write a status this console has no word for.
        return self._t(f"status.{name}") if name in STATUSES else name

    def _prospect_fact(self, name: str, value: Any) -> _Fact:
        if name == "arquetipo" and isinstance(value, str):
            value = value.replace("_", " ")
        if name == "nivel_interes" and isinstance(value, int | float):
            value = f"{value:g} / 10"
        return _Fact(self._t(f"field.{name}"), value, "list" if isinstance(value, list) else "text")

    def _place(self, row: Mapping[str, Any], state: Mapping[str, Any], changelog_topic: str) -> list[_Fact]:
        source = None
        # Every state has a source offset; only an extracted one has a source.
        if state.get("chain"):
            source = self._t(
                "place", partition=state.get("source_partition", "?"), offset=state.get("source_offset", "?")
            )
        facts = [
            ("session_id", row["session_id"], "code"),
            ("tenant_id", row["tenant_id"], "code"),
            ("fingerprints", _list(state, "fingerprints"), "codes"),
            ("first_url", state.get("first_url"), "text"),
            ("turns", row["turns"], "text"),
            ("first_seen", row["first_seen_ms"], "time"),
            ("last_seen", row["last_seen_ms"], "time"),
            ("snapshot_at", state.get("snapshot_at_ms"), "time"),
            ("source", source, "text"),
            ("changelog", self._t("place", partition=row["partition"], offset=row["offset"]), "text"),
            ("changelog_topic", changelog_topic, "code"),
            ("recorded_at", row["recorded_at_ms"], "time"),
            ("digest", state.get("digest"), "code"),
        ]
        return [_Fact(self._t(f"field.{name}"), value, kind) for name, value, kind in facts]

    def _extraction(self, state: Mapping[str, Any], extraction: Mapping[str, Any]) -> list[_Fact]:
        if not extraction:
            return []
        latency = extraction.get("latency_ms")
        cost = extraction.get("cost_usd")
        facts = [
            ("extractor", extraction.get("extractor"), "text"),
            ("model", extraction.get("model"), "text"),
            ("prompt_version", extraction.get("prompt_version"), "code"),
            ("enriched_at", _milliseconds(state.get("enriched_at")), "time"),
            ("latency_ms", self._t("milliseconds", n=f"{latency:,.1f}") if _is_number(latency) else None, "text"),
            ("tokens", f"{extraction.get('input_tokens', 0)} / {extraction.get('output_tokens', 0)}", "text"),
            ("cache_read_tokens", extraction.get("cache_read_tokens"), "text"),
            ("cost_usd", f"${cost:.6f}" if _is_number(cost) else None, "text"),
            ("dropped_fields", _list(extraction, "dropped_fields"), "list"),
        ]
        return [_Fact(self._t(f"field.{name}"), value, kind) for name, value, kind in facts]


def list_url(session_filter: SessionFilter, after: Cursor | None = None) -> str:
    """The address of a page of the list."""
    values = {
        "q": session_filter.text,
        "status": session_filter.status,
        "momento": session_filter.momento,
        "after": None if after is None else str(after),
    }
    query = urlencode({name: value for name, value in values.items() if value})
    return f"/?{query}" if query else "/"


def _mapping(state: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = state.get(name)
    return value if isinstance(value, dict) else {}


def _list(state: Mapping[str, Any], name: str) -> list[Any]:
    value = state.get(name)
    return value if isinstance(value, list) else []


def _milliseconds(text: Any) -> int | None:
    try:
        return int(datetime.fromisoformat(text).timestamp() * 1000)
    except (TypeError, ValueError, OverflowError):
        return None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
