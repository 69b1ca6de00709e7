"""Results of rows: a JSON file each, so that a run goes on where it was interrupted, and the table made of them."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from tests.chaos.row import RowResult

__all__ = ["Results", "table"]

_COLUMNS = (
    ("scenario", "scenario"),
    ("broker", "broker"),
    ("sent", "sent"),
    ("sessions", "sessions"),
    ("rows_right", "rows right"),
    ("lost", "lost"),
    ("doubled_effects", "doubled effects"),
    ("reemitted", "emitted again, same id"),
    ("repeated", "repeated calls (allowed)"),
    ("letters", "dead letters (expected)"),
    ("catch_up", "s to catch up"),
    ("restarts", "restarted by supervisor"),
    ("passed", "passed"),
)


class Results:
    """The folder of one run. Rows that passed are not run again; a finished run is followed by a new one."""

    def __init__(self, root: Path, profile: str, run: str | None = None) -> None:
        if run is None:
            unfinished = [folder for folder in sorted(root.glob(f"{profile}-*")) if not (folder / "finished").exists()]
            run = unfinished[-1].name if unfinished else f"{profile}-{time.strftime('%Y%m%d-%H%M%S')}"
        self.folder = root / run
        self.folder.mkdir(parents=True, exist_ok=True)

    def _file(self, broker: str, scenario: str) -> Path:
        return self.folder / f"{broker}-{scenario}.json"

    def known(self, broker: str, scenario: str) -> dict[str, Any] | None:
        """The row's result, if it is there and passed."""
        file = self._file(broker, scenario)
        result: dict[str, Any] | None = json.loads(file.read_text()) if file.exists() else None
        return result if result is not None and result["passed"] else None

    def save(self, result: RowResult) -> dict[str, Any]:
        """Write a row's result."""
        file = self._file(result.broker, result.scenario)
        temporary = file.with_suffix(".tmp")
        temporary.write_text(json.dumps(result.as_json(), indent=1, ensure_ascii=False) + "\n")
        temporary.replace(file)
        return result.as_json()

    def finish(self) -> None:
        """Every row passed: the next run starts anew."""
        (self.folder / "finished").touch()


def table(results: list[dict[str, Any]]) -> str:
    """A Markdown table, a line a row."""
    lines = ["| " + " | ".join(title for _, title in _COLUMNS) + " |", "|" + " --- |" * len(_COLUMNS)]
    for result in results:
        verdict = result["verdict"]
        cells = {
            **verdict,
            "scenario": result["scenario"],
            "broker": result["broker"],
            "repeated": f"{verdict['repeated_calls']} ({verdict['repeated_calls_allowed']})",
            "letters": f"{verdict['dead_letters_found']} ({verdict['dead_letters_expected']})",
            "catch_up": result["seconds_to_catch_up"],
            "restarts": len(result["restarts_by_supervisor"]),
            "passed": "yes" if result["passed"] else "NO",
        }
        lines.append("| " + " | ".join(str(cells[name]) for name, _ in _COLUMNS) + " |")
    return "\n".join(lines)
