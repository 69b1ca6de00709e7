"""docs/reference/metrics.md lists exactly the declared metrics; their names follow Prometheus's rules."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
PAGE = (ROOT / "docs" / "reference" / "metrics.md").read_text(encoding="utf-8")
DECLARATIONS = {
    "Counter": "counter",
    "CounterMetricFamily": "counter",
    "Gauge": "gauge",
    "GaugeMetricFamily": "gauge",
    "Histogram": "histogram",
}
# The allowed endings of a name, by type: its unit, or `_total` for a counter.
ENDINGS = {
    "counter": r"_total",
    "gauge": r"_(seconds|records|usd|info|known|state|firing)|nexus_budget(_spent)?_usd",
    "histogram": r"_seconds",
}


def declared() -> dict[str, str]:
    """Name -> type of every metric that the package declares."""
    found: dict[str, str] = {}
    for path in (ROOT / "nexus_stream").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.args):
                continue
            first, kind = node.args[0], DECLARATIONS.get(node.func.id)
            if kind and isinstance(first, ast.Constant) and str(first.value).startswith("nexus_"):
                name = str(first.value)
                found[name if kind != "counter" else f"{name.removesuffix('_total')}_total"] = kind
    return found


def documented() -> dict[str, str]:
    """Name -> type of every row in the page's tables."""
    rows = re.findall(r"^\| `(nexus_\w+)` \| (\w+) \|", PAGE, re.MULTILINE)
    assert len(rows) == len(dict(rows)), "the page lists a metric twice"
    return dict(rows)


DECLARED = declared()


def test_the_page_lists_exactly_the_declared_metrics():
    assert documented() == DECLARED
    assert len(DECLARED) > 25


@pytest.mark.parametrize("name", sorted(DECLARED))
def test_names_end_with_their_unit(name: str):
    assert re.fullmatch(r"nexus_[a-z]+(_[a-z]+)*", name)
    assert re.search(rf"({ENDINGS[DECLARED[name]]})$", name)
