"""Render the session list and the page of one session: convert rows of the index to template values.

To: templates/sessions*.html and session.html.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from nexus_stream.console.index.session_row import OBJECTIONS, state_of
from nexus_stream.console.reading.filters import PERIODS, Cursor, SessionFilter, list_url
from nexus_stream.console.reading.queries import Page
from nexus_stream.console.web.conversation_text import ShownTurn
from nexus_stream.console.web.masking import mask_fingerprint, mask_prospect, mask_row, mask_url
from nexus_stream.console.web.pages import STATUSES, Pages
from nexus_stream.console.web.rendering import pretty_json, usd
from nexus_stream.console.web.texts import Translate, translator
from nexus_stream.console.web.viewing import Viewing
from nexus_stream.contracts.json_reading import items, mapping
from nexus_stream.contracts.moments import iso_ms
from nexus_stream.contracts.prospect import Arquetipo, Momento
from nexus_stream.errors import Reason

__all__ = ["SessionPages", "ShownConversation", "shown_row"]

MOMENTOS = tuple(momento.value for momento in Momento)
ARQUETIPOS = tuple(arquetipo.value for arquetipo in Arquetipo)
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
# A tuple: an index may hold a value that has no hash.
_REASONS = tuple(Reason)
_COUNTERS = ("snapshots", "calls", "input_tokens", "output_tokens", "cost_usd")


@dataclass(frozen=True, slots=True)
class _Fact:
    """One line of a definition list. ``kind`` chooses how the template shows the value: text, time, list or code."""

    label: str
    value: Any
    kind: str = "text"


@dataclass(frozen=True, slots=True)
class ShownConversation:
    """The text of a session, or why it is not shown: none, expired, unreachable, missing, changed or hidden."""

    turns: Sequence[ShownTurn] = ()
    problem: str | None = None


class SessionPages:
    """Render session pages with `Pages`."""

    def __init__(self, pages: Pages) -> None:
        self._pages = pages

    def sessions(
        self,
        viewing: Viewing,
        page: Page,
        facets: Mapping[str, Mapping[str, int]],
        session_filter: SessionFilter,
        after: Cursor | None,
        version: str,
        *,
        whole: bool,
    ) -> str:
        """Render the list, or only its rows."""
        rows = [shown_row(viewing, row) for row in page.rows]
        common: dict[str, Any] = {
            "rows": rows,
            "filter": session_filter,
            "is_filtered": session_filter != SessionFilter(),
            "is_first": after is None,
            "first_url": list_url(session_filter),
            "next_url": page.next_cursor and list_url(session_filter, page.next_cursor),
            "rows_url": list_url(session_filter, path="/sessions/rows"),
            "cut_at_ms": page.next_cursor.last_seen_ms if page.next_cursor and page.is_cut_short else None,
            "version": version,
        }
        if not whole:
            return self._pages.render("sessions_rows.html", viewing, **common)
        return self._pages.render(
            "sessions.html",
            viewing,
            **common,
            tabs=self._tabs(translator(viewing.language), facets.get("status", {}), session_filter),
            momentos=MOMENTOS,
            arquetipos=ARQUETIPOS,
            objections=OBJECTIONS,
            extractors=sorted({*facets.get("extractor", {}), *filter(None, [session_filter.extractor])}),
            periods=tuple(PERIODS),
            export_urls={kind: list_url(session_filter, path=f"/sessions/export.{kind}") for kind in ("csv", "json")},
        )

    @staticmethod
    def _tabs(t: Translate, counts: Mapping[str, int], session_filter: SessionFilter) -> list[dict[str, Any]]:
        statuses = [name for name in STATUSES if counts.get(name)] + sorted(counts.keys() - set(STATUSES))
        if session_filter.status is not None and session_filter.status not in statuses:
            statuses.append(session_filter.status)
        # The counts cover the whole table. Beside a search, they would look like its results.
        is_counted = replace(session_filter, status=None) == SessionFilter()
        tabs: list[tuple[str | None, str, int]] = [(None, t("sessions.all"), sum(counts.values()))]
        tabs += [(name, t(f"status.{name}") if name in STATUSES else name, counts.get(name, 0)) for name in statuses]
        return [
            {
                "label": label,
                "count": count if is_counted else None,
                "url": list_url(replace(session_filter, status=name)),
                "is_current": name == session_filter.status,
            }
            for name, label, count in tabs
        ]

    def session(
        self,
        viewing: Viewing,
        row: Mapping[str, Any],
        changelog_topic: str,
        *,
        emissions: Sequence[sqlite3.Row] = (),
        others: Sequence[sqlite3.Row] = (),
        letters: Sequence[sqlite3.Row] = (),
        conversation: ShownConversation | None = None,
        database: Mapping[str, Any] | None = None,
        can_erase: bool = False,
    ) -> str:
        """Render one session. ``row`` has all columns."""
        t = translator(viewing.language)
        state = state_of(row["state"])
        prospect, extraction = mapping(state.get("prospect")), mapping(state.get("extraction"))
        version = state.get("state_version")
        if not viewing.is_operator:
            prospect = mask_prospect(prospect)
        return self._pages.render(
            "session.html",
            viewing,
            row=dict(row) if viewing.is_operator else mask_row(row),
            is_readable=bool(state),
            newer_version=version if isinstance(version, int) and version > KNOWN_STATE_VERSION else None,
            dead=(dead := mapping(state.get("dead")) or None),
            is_read_by_rules=bool(dead and dead.get("is_read") and state.get("base")),
            prospect_facts=[_prospect_fact(t, name, prospect.get(name)) for name in _PROSPECT_FIELDS],
            place_facts=_place(t, row, state, changelog_topic, viewing),
            extraction_facts=_extraction(t, state, extraction),
            counters=[
                (t(f"counter.{name}"), value)
                for name in _COUNTERS
                if (value := mapping(state.get("counters")).get(name)) is not None
            ],
            signals=[signal for signal in items(extraction.get("signals")) if isinstance(signal, dict)],
            timeline=_timeline(state, extraction, emissions),
            conversation=conversation,
            others=[shown_row(viewing, other) for other in others],
            letters=letters,
            database=database,
            database_text=pretty_json(database["json"]) if database and "json" in database else None,
            can_erase=can_erase,
            state_text=pretty_json(row["state"]) if viewing.is_operator else None,
            state_bytes=len(row["state"]),
        )


def shown_row(viewing: Viewing, row: sqlite3.Row) -> dict[str, Any]:
    """Return a row of the list, masked if the user is a viewer."""
    return dict(row) if viewing.is_operator else mask_row(dict(row))


def _prospect_fact(t: Translate, name: str, value: Any) -> _Fact:
    if name == "arquetipo" and isinstance(value, str):
        value = value.replace("_", " ")
    if name == "nivel_interes" and _is_number(value):
        value = f"{value:g} / 10"
    return _Fact(t(f"field.{name}"), value, "list" if isinstance(value, list) else "text")


def _place(
    t: Translate, row: Mapping[str, Any], state: Mapping[str, Any], changelog_topic: str, viewing: Viewing
) -> list[_Fact]:
    fingerprints, first_url = items(state.get("fingerprints")), state.get("first_url")
    if not viewing.is_operator:
        fingerprints = [mask_fingerprint(text) for text in fingerprints if isinstance(text, str)]
        first_url = mask_url(first_url) if isinstance(first_url, str) else None
    source = None
    # Every state has a source offset, but only an extracted one has a real source.
    if state.get("digest"):
        source = t("place", partition=state.get("source_partition", "?"), offset=state.get("source_offset", "?"))
    facts = [
        ("session_id", row["session_id"], "code"),
        ("tenant_id", row["tenant_id"], "code"),
        ("fingerprints", fingerprints, "codes"),
        ("first_url", first_url, "text"),
        ("turns", row["turns"], "text"),
        ("first_seen", row["first_seen_ms"], "time"),
        ("last_seen", row["last_seen_ms"], "time"),
        ("snapshot_at", state.get("snapshot_at_ms"), "time"),
        ("source", source, "text"),
        ("changelog", t("place", partition=row["partition"], offset=row["offset"]), "text"),
        ("changelog_topic", changelog_topic, "code"),
        ("recorded_at", row["recorded_at_ms"], "time"),
        ("digest", state.get("digest"), "code"),
    ]
    return [_Fact(t(f"field.{name}"), value, kind) for name, value, kind in facts]


def _extraction(t: Translate, state: Mapping[str, Any], extraction: Mapping[str, Any]) -> list[_Fact]:
    if not extraction:
        return []
    latency = extraction.get("latency_ms")
    cost = extraction.get("cost_usd")
    reason = extraction.get("instead_of")
    facts = [
        ("extractor", extraction.get("extractor"), "text"),
        ("instead_of", t(f"reason.{reason}") if reason in _REASONS else reason, "text"),
        ("model", extraction.get("model"), "text"),
        ("prompt_version", extraction.get("prompt_version"), "code"),
        ("enriched_at", iso_ms(state.get("enriched_at")), "time"),
        ("latency_ms", t("milliseconds", n=f"{latency:,.1f}") if _is_number(latency) else None, "text"),
        ("tokens", f"{extraction.get('input_tokens', 0)} / {extraction.get('output_tokens', 0)}", "text"),
        ("cache_read_tokens", extraction.get("cache_read_tokens"), "text"),
        ("cost_usd", f"${cost:.6f}" if _is_number(cost) else None, "text"),
        ("dropped_fields", items(extraction.get("dropped_fields")), "list"),
        ("doubtful_fields", items(extraction.get("doubtful_fields")), "list"),
    ]
    return [_Fact(t(f"field.{name}"), value, kind) for name, value, kind in facts]


def _timeline(
    state: Mapping[str, Any], extraction: Mapping[str, Any], emissions: Sequence[sqlite3.Row]
) -> list[dict[str, Any]]:
    """Return the steps of the newest snapshot and all known emissions, oldest first."""
    received_ms = iso_ms(state.get("enqueued_at"))
    extracted_ms = iso_ms(state.get("enriched_at"))
    latency = extraction.get("latency_ms")
    steps: list[dict[str, Any]] = [
        {
            "step": "emitted" if emission["kind"] == "enriched" else "event",
            "at_ms": emission["recorded_at_ms"],
            "kind": emission["kind"],
            "partition": emission["partition"],
            "offset": emission["offset"],
            "turns": emission["turns"],
            "is_repeat": bool(emission["is_repeat"]),
        }
        for emission in emissions
    ]
    if received_ms is not None:
        steps.append(
            {
                "step": "received",
                "at_ms": received_ms,
                "partition": state.get("source_partition", "?"),
                "offset": state.get("source_offset", "?"),
            }
        )
    if extracted_ms is not None and extraction:
        # No record contains the start of the extraction: subtract the latency from the time of the answer.
        took_ms = max(0.0, float(latency)) if isinstance(latency, int | float) else 0.0
        steps.append({"step": "settled", "at_ms": max(0, int(extracted_ms - took_ms))})
        steps.append(
            {
                "step": "extracted",
                "at_ms": extracted_ms,
                "tokens": f"{extraction.get('input_tokens', 0)} / {extraction.get('output_tokens', 0)}",
                "cost": usd(cost) if _is_number(cost := extraction.get("cost_usd", 0.0)) else "",
                "latency_ms": latency if _is_number(latency) else None,
                "extractor": extraction.get("extractor", ""),
                "instead_of": reason if (reason := extraction.get("instead_of")) in _REASONS else None,
            }
        )
    order = {"received": 0, "settled": 1, "extracted": 2}
    return sorted(steps, key=lambda step: (step["at_ms"], order.get(step["step"], 3)))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
