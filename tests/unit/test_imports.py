"""Rules stay plain Python: the modules that decide import no framework and no driver."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FRAMEWORKS = {"faust", "aiohttp", "asyncpg", "anthropic"}
# Claude's own modules speak to the SDK; the rest of extraction does not.
PLAIN = [
    *sorted((ROOT / "nexus_stream" / "delivery").glob("*.py")),
    *sorted(path for path in (ROOT / "nexus_stream" / "extraction").glob("*.py") if not path.name.startswith("claude")),
    *sorted((ROOT / "nexus_stream" / "contracts").glob("*.py")),
    *sorted((ROOT / "agents").glob("*.py")),
]


def runtime_imports(path: Path) -> set[str]:
    """Top-level packages a module imports, leaving out what only the type checker sees."""
    names: set[str] = set()

    class Visitor(ast.NodeVisitor):
        def visit_If(self, node: ast.If) -> None:
            if not (isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"):
                self.generic_visit(node)

        def visit_Import(self, node: ast.Import) -> None:
            names.update(alias.name.split(".")[0] for alias in node.names)

        def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
            names.add((node.module or "").split(".")[0])

    Visitor().visit(ast.parse(path.read_text()))
    return names


@pytest.mark.parametrize("path", PLAIN, ids=lambda path: str(path.relative_to(ROOT)))
def test_rules_import_no_framework(path: Path):
    assert not runtime_imports(path) & FRAMEWORKS


def test_only_the_apps_and_the_table_import_faust():
    importers = {
        str(path.relative_to(ROOT))
        for folder in ("nexus_stream", "agents", "tables")
        for path in (ROOT / folder).rglob("*.py")
        if "faust" in runtime_imports(path)
    }
    assert importers == {
        "nexus_stream/worker/app.py",
        "nexus_stream/worker/broker.py",
        "nexus_stream/worker/consumer.py",
        "nexus_stream/worker/options.py",
        "nexus_stream/worker/recovery.py",
        "tables/sessions.py",
    }
