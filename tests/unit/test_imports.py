"""The layout: which file may import which, where a command lives, and that a name means one thing."""

from __future__ import annotations

import ast
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

import pytest

from nexus_stream import cli

ROOT = Path(__file__).parents[2]
FOLDERS = ("nexus_stream", "agents", "tables")
FRAMEWORKS = {"faust", "aiohttp", "asyncpg", "anthropic"}
LOOSE = {"__init__", "cli", "command_line", "enricher", "errors", "providers", "settings", "sink"}


def _module(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


PATHS = {_module(path): path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.py"))}
# Its names are those of the schemas in the published API of the console.
PUBLISHED = {"nexus_stream.console.web.answers"}
# Claude's own modules speak to the SDK; the rest of extraction does not.
PLAIN = [
    module
    for module in PATHS
    if module.startswith(("nexus_stream.delivery", "nexus_stream.extraction", "nexus_stream.contracts", "agents"))
    and not module.startswith("nexus_stream.extraction.claude")
]


@cache
def imports(module: str, *, at_run_time: bool = False) -> frozenset[str]:
    """Every module that this one imports, under its full name.

    Args:
        module: Which one.
        at_run_time: Without the imports that only a type checker sees.
    """
    return frozenset(_imported(ast.parse(PATHS[module].read_text(encoding="utf-8")), at_run_time))


def _imported(tree: ast.AST, at_run_time: bool) -> Iterator[str]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            if not at_run_time:
                yield from _imported(node, at_run_time)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                yield name if name in PATHS else str(node.module)
        else:
            yield from _imported(node, at_run_time)


def packages(module: str) -> set[str]:
    """The top-level packages that a module imports at run time."""
    return {name.split(".")[0] for name in imports(module, at_run_time=True)}


def rings(graph: Mapping[str, set[str]]) -> list[list[str]]:
    """The groups of nodes that reach each other, directly or through others (Tarjan)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for other in sorted(graph.get(node, ())):
            if other not in index:
                visit(other)
                low[node] = min(low[node], low[other])
            elif other in stack:
                low[node] = min(low[node], index[other])
        if low[node] == index[node]:
            at = stack.index(node)
            group = stack[at:]
            del stack[at:]
            if len(group) > 1:
                found.append(sorted(group))

    for node in graph:
        if node not in index:
            visit(node)
    return found


def room(module: str) -> str:
    """``nexus_stream.kafka`` of ``nexus_stream.kafka.clients``; a loose module is a room of its own."""
    parts = module.split(".")
    return ".".join(parts[:2]) if parts[0] == "nexus_stream" else parts[0]


FILES = {module: {name for name in imports(module) if name in PATHS and name != module} for module in PATHS}


def test_rings_are_found():
    assert rings({"a": {"b"}, "b": {"c"}, "c": {"a", "d"}, "d": set()}) == [["a", "b", "c"]]
    assert rings({"a": {"b", "c"}, "b": {"d"}, "c": {"d"}, "d": set()}) == []


def test_no_files_import_each_other():
    assert not rings(FILES), f"rings of files: {rings(FILES)}"


def test_no_rooms_import_each_other():
    rooms: dict[str, set[str]] = defaultdict(set)
    edges: dict[tuple[str, str], list[str]] = defaultdict(list)
    for module, names in FILES.items():
        for name in names:
            if room(module) != room(name):
                rooms[room(module)].add(room(name))
                edges[room(module), room(name)].append(f"{module} imports {name}")
    told = [
        line
        for ring in rings(rooms)
        for (one, other), lines in sorted(edges.items())
        if one in ring and other in ring
        for line in lines
    ]
    assert not told, "rings of rooms:\n" + "\n".join(told)


def test_observability_knows_none_of_what_it_shows():
    shown = ("nexus_stream.gateway", "nexus_stream.extraction", "nexus_stream.dead_letters")
    found = {
        f"{module} imports {name}"
        for module in PATHS
        if room(module) == "nexus_stream.observability"
        for name in imports(module)
        if room(name) in shown
    }
    assert not found


@pytest.mark.parametrize(("agent", "stage"), [("enrichment", "enrichment"), ("sink", "supabase")])
def test_an_agent_imports_faust_and_its_stage(agent: str, stage: str):
    found = {name for name in imports(f"agents.{agent}") if name.split(".")[0] not in sys.stdlib_module_names}
    assert {name for name in found if name.split(".")[0] != "faust"} == {f"nexus_stream.{stage}.stage"}
    assert any(name.startswith("faust") for name in found)


@pytest.mark.parametrize("module", [name for name in PATHS if name.endswith(".stage") or ".delivery" in name])
def test_a_stage_imports_no_faust(module: str):
    assert not {name for name in imports(module) if name.split(".")[0] == "faust"}


@pytest.mark.parametrize("module", PLAIN)
def test_rules_import_no_framework(module: str):
    assert not packages(module) & FRAMEWORKS


def test_only_the_apps_and_the_table_import_faust():
    assert {module for module in PATHS if "faust" in packages(module)} == {
        "nexus_stream.worker.app",
        "nexus_stream.worker.broker",
        "nexus_stream.worker.consumer",
        "nexus_stream.worker.options",
        "nexus_stream.worker.recovery",
        "tables.sessions",
    }


def test_a_command_is_in_a_file_named_command():
    modules = {place.partition(":")[0] for place, _ in cli._COMMANDS.values()}
    assert not {module for module in modules if not module.rpartition(".")[2].endswith("command")}
    assert {module for module in PATHS if module.endswith(("_command", ".command"))} == modules | {
        "nexus_stream.contracts.session_command"  # the record, no command line
    }


def test_loose_modules_are_the_known_ones():
    assert {path.stem for path in (ROOT / "nexus_stream").glob("*.py")} == LOOSE


def test_a_name_means_one_thing():
    places: dict[str, list[str]] = defaultdict(list)
    for module, path in PATHS.items():
        if module in PUBLISHED:
            continue
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places[node.name].append(module)
            elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                name = node.targets[0].id
                # A type alias.
                if name[0].isupper() and not name.isupper():
                    places[name].append(module)
    shared = {name: modules for name, modules in places.items() if len(modules) > 1}
    assert not shared, f"one name, several meanings: {shared}"


def test_every_module_logs_through_the_one_api():
    assert not {
        module
        for module, path in PATHS.items()
        if "logging.getLogger(__name__)" in path.read_text(encoding="utf-8")
        or ("structlog.get_logger" in path.read_text(encoding="utf-8") and module != "nexus_stream.host.log")
    }
