"""Render the pages' templates in the user's language, without the data that a viewer may not see.

To: templates/. This module does not use HTTP, so tests can render pages alone. session_pages.py renders session pages.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from typing import Any

from jinja2 import Environment

from nexus_stream.console.alerts.conditions import Alert
from nexus_stream.console.index.session_row import UNREADABLE
from nexus_stream.console.reading.activity import STATES, LetterFilter, LetterGroup
from nexus_stream.console.reading.overview import Overview
from nexus_stream.console.web.masking import mask_row
from nexus_stream.console.web.rendering import ago, make_environment
from nexus_stream.console.web.texts import LANGUAGES, translator
from nexus_stream.console.web.viewing import Viewing

__all__ = ["STATUSES", "Pages"]

# Shown first, in this order. Other statuses of the table follow.
STATUSES = ("enriched", "unblocked", "dead", "erased", UNREADABLE)


class Pages:
    """Render templates."""

    def __init__(self) -> None:
        self._environments: dict[str, Environment] = {name: make_environment(name) for name in LANGUAGES}

    def render(self, template: str, viewing: Viewing, **values: Any) -> str:
        """Render one template, with ``viewing`` and the values that every page uses."""
        t = translator(viewing.language)

        def since(milliseconds: int) -> str:
            return ago(milliseconds, viewing.now_ms, t)

        def status_label(name: str) -> str:
            # A newer enricher may write a status that this console has no text for.
            return t(f"status.{name}") if name in STATUSES else name

        return (
            self._environments[viewing.language]
            .get_template(template)
            .render(
                viewing=viewing,
                freshness=viewing.freshness,
                here=viewing.here,
                since=since,
                status_label=status_label,
                is_operator=viewing.is_operator,
                csrf=viewing.identity.csrf if viewing.identity is not None else "",
                **values,
            )
        )

    def error(self, viewing: Viewing, status: int, reason: str | None = None) -> str:
        """Render the error page. ``reason`` is an optional text about the cause."""
        return self.render("error.html", viewing, status=status, reason=reason)

    def login(self, viewing: Viewing, problem: str | None) -> str:
        """Render the login form. ``problem`` is ``wrong``, ``limited`` or None."""
        return self.render("login.html", viewing, problem=problem)

    def overview(self, viewing: Viewing, overview: Overview, alerts: Sequence[Alert], *, whole: bool) -> str:
        """Render the overview, or only its live part."""
        template = "overview.html" if whole else "overview_live.html"
        return self.render(template, viewing, overview=overview, alerts=alerts)

    def tail(self, viewing: Viewing, rows: Sequence[sqlite3.Row]) -> str:
        """Render the live tail with the newest emissions."""
        return self.render("tail.html", viewing, rows=[self._tail_row(viewing, row) for row in rows])

    def tail_row(self, viewing: Viewing, row: sqlite3.Row) -> str:
        """Render one line of the live tail."""
        return self.render("tail_row.html", viewing, row=self._tail_row(viewing, row))

    def letters(
        self,
        viewing: Viewing,
        groups: Sequence[LetterGroup],
        rows: Sequence[sqlite3.Row],
        wanted: LetterFilter,
        next_url: str | None,
        actions: Sequence[Mapping[str, Any]],
        message: str | None,
    ) -> str:
        """Render the dead letters: counts by reason, one page of letters, and the operators' last actions."""
        return self.render(
            "letters.html",
            viewing,
            groups=groups,
            rows=rows,
            wanted=wanted,
            states=STATES,
            next_url=next_url,
            actions=actions,
            message=message,
        )

    def letter(
        self,
        viewing: Viewing,
        row: sqlite3.Row,
        content: Mapping[str, Any] | None,
        problem: str | None,
        session: tuple[str, str] | None,
    ) -> str:
        """Render one dead letter. Only operators see its bytes."""
        return self.render("letter.html", viewing, row=row, content=content, problem=problem, session=session)

    def confirm(self, viewing: Viewing, **values: Any) -> str:
        """Render the confirmation of an action, with its form."""
        return self.render("confirm.html", viewing, **values)

    def audit(self, viewing: Viewing, actions: Sequence[Mapping[str, Any]]) -> str:
        """Render the operators' actions."""
        return self.render("audit.html", viewing, actions=actions)

    @staticmethod
    def _tail_row(viewing: Viewing, row: sqlite3.Row) -> Mapping[str, Any]:
        return dict(row) if viewing.is_operator else mask_row(dict(row))
