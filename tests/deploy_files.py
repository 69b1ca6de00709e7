"""Read deploy/ and the Dockerfile as data: each process with its command, environment and time to stop.

tests/unit/deploy compares them with the settings and schemas. tests/integration/deploy runs the instructions of the
Dockerfile.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from nexus_stream.observability.healthcheck_command import process_type_of
from nexus_stream.settings import Role

__all__ = [
    "DEPLOY",
    "ROOT",
    "Instruction",
    "Process",
    "build_context",
    "compose_processes",
    "dockerfile",
    "env_file",
    "image_environment",
    "interpolate",
    "kubernetes_processes",
    "kustomized",
    "role_of",
    "systemd_processes",
    "unit_file",
]

ROOT = Path(__file__).resolve().parents[1]
DEPLOY = ROOT / "deploy"
KUBERNETES = DEPLOY / "kubernetes"
# Replaces every empty secret of the examples. It is long enough for a console's token.
SECRET = "0123456789abcdef"


@dataclass(frozen=True)
class Process:
    """One process of a deployment file."""

    name: str
    argv: tuple[str, ...]
    environment: Mapping[str, str]
    grace_seconds: float
    memory_limited: bool = True
    # Its health probes: port -> paths, or commands.
    probes: Mapping[int, tuple[str, ...]] = field(default_factory=dict)

    @property
    def role(self) -> Role:
        return role_of(self.argv)


def role_of(argv: tuple[str, ...]) -> Role:
    """The role of a command of this project."""
    return process_type_of(list(argv)) or "tool"


def env_file(path: Path, *, uncomment: bool = False) -> dict[str, str]:
    """The ``NAME=value`` lines. With ``uncomment`` also the ``#NAME=value`` lines; the first of two values wins."""
    pattern = re.compile(r"^#?([A-Za-z_][A-Za-z0-9_]*)=(.*)$" if uncomment else r"^([A-Za-z_][A-Za-z0-9_]*)=(.*)$")
    found: dict[str, str] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        if matched := pattern.match(line):
            found.setdefault(matched[1], matched[2])
    return found


# Compose


def interpolate(text: str, variables: Mapping[str, str]) -> str:
    """Fill in ``${NAME}``, ``${NAME:-default}`` and ``${NAME:?why}`` as Compose does, also nested ones.

    Raises:
        KeyError: a ``:?`` variable is not set.
    """
    pattern = re.compile(r"\$\{(\w+)(?:(:-|:\?)([^${}]*))?\}")

    def value(match: re.Match[str]) -> str:
        name, operator, rest = match[1], match[2], match[3]
        if variables.get(name):
            return variables[name]
        if operator == ":?":
            raise KeyError(f"{name}: {rest}")
        return rest if operator == ":-" else ""

    # Innermost first, until nothing changes.
    while (filled := pattern.sub(value, text)) != text:
        text = filled
    return text


def compose_processes(document: Mapping[str, Any], variables: Mapping[str, str]) -> Iterator[Process]:
    """The processes of this project in a compose file."""
    shared = env_file(DEPLOY / "compose" / "settings.env")
    for name, service in document["services"].items():
        argv = tuple(service.get("command", ()))
        if role_of(argv) == "tool" and argv[:1] != ("nexus",):
            continue
        own = {key: interpolate(value, variables) for key, value in service["environment"].items()}
        yield Process(
            name,
            argv,
            {**image_environment(), **shared, **own},
            float(str(service["stop_grace_period"]).removesuffix("s")),
            memory_limited="memory" in service.get("deploy", {}).get("resources", {}).get("limits", {}),
        )


# Kubernetes


def kustomized(folder: str) -> list[dict[str, Any]]:
    """The objects of a kustomization and of its base folders, without patches and transformers."""
    found = []
    listing = yaml.safe_load((KUBERNETES / folder / "kustomization.yaml").read_text())
    for resource in listing.get("resources", []):
        path = (KUBERNETES / folder / resource).resolve()
        if path.is_dir():
            found += kustomized(str(path.relative_to(KUBERNETES)))
        else:
            found += [document for document in yaml.safe_load_all(path.read_text()) if document]
    return found


def kubernetes_secrets() -> dict[str, dict[str, str]]:
    """The Secrets of secret.example.yaml, filled in."""
    documents = yaml.safe_load_all((KUBERNETES / "secret.example.yaml").read_text())
    return {
        document["metadata"]["name"]: {
            # Each token is different.
            key: value or f"{SECRET}-{key}"
            for key, value in document["stringData"].items()
        }
        for document in documents
        if document["kind"] == "Secret"
    }


def kubernetes_processes(objects: list[dict[str, Any]]) -> Iterator[Process]:
    """The containers of all Deployments, StatefulSets and Jobs, with their environment."""
    settings = {item["metadata"]["name"]: item["data"] for item in objects if item["kind"] == "ConfigMap"}
    sources = {**settings, **kubernetes_secrets()}
    for item in objects:
        if item["kind"] not in {"Deployment", "StatefulSet", "Job"}:
            continue
        pod = item["spec"]["template"]["spec"]
        for container in [*pod.get("initContainers", []), *pod["containers"]]:
            environment = dict(image_environment())
            for source in container["envFrom"]:
                (reference,) = source.values()
                environment |= sources[reference["name"]]
            environment |= {entry["name"]: entry["value"] for entry in container.get("env", [])}
            ports = {port["name"]: port["containerPort"] for port in container.get("ports", [])}
            probes: dict[int, tuple[str, ...]] = {}
            for kind in ("startupProbe", "livenessProbe", "readinessProbe"):
                if kind in container:
                    get = container[kind]["httpGet"]
                    probes[ports[get["port"]]] = (*probes.get(ports[get["port"]], ()), get["path"])
            yield Process(
                f"{item['metadata']['name']}/{container['name']}",
                tuple(container["command"]),
                environment,
                pod.get("terminationGracePeriodSeconds", 30),
                memory_limited="memory" in container["resources"]["limits"],
                probes=probes,
            )


# systemd


def unit_file(path: Path) -> list[tuple[str, str, str]]:
    """(section, directive, value) in order. A directive may occur several times."""
    section, found = "", []
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("["):
            section = line.strip("[]")
        elif line and not line.startswith(("#", ";")):
            name, _, value = line.partition("=")
            found.append((section, name, value))
    return found


def systemd_processes(instance: str = "1") -> Iterator[Process]:
    """The services of this project, with the instance name ``instance``."""
    for path in sorted((DEPLOY / "systemd").glob("*.service")):
        lines = [(name, value.replace("%i", instance).replace("%S", "/var/lib")) for _, name, value in unit_file(path)]
        service = dict(lines)
        environment: dict[str, str] = {}
        for name, value in lines:
            if name == "Environment":
                environment |= dict(word.split("=", 1) for word in shlex.split(value))
        yield Process(
            path.name,
            tuple(shlex.split(service["ExecStart"])),
            environment,
            float(service["TimeoutStopSec"]),
            memory_limited="MemoryMax" in service,
        )


# The image


@dataclass(frozen=True)
class Instruction:
    """One instruction of a Dockerfile. ``argv`` is None unless it has the JSON form."""

    name: str
    text: str
    argv: tuple[str, ...] | None


def dockerfile(path: Path = ROOT / "Dockerfile") -> list[Instruction]:
    """The instructions in order, with continued lines joined and without comments."""
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if not line.lstrip().startswith("#")]
    found = []
    for line in "\n".join(lines).replace("\\\n", " ").splitlines():
        if line.strip():
            name, _, rest = line.strip().partition(" ")
            text = " ".join(rest.split())
            argv = re.search(r"\[.*\]$", text)
            found.append(Instruction(name.upper(), text, tuple(json.loads(argv[0])) if argv else None))
    return found


def image_environment() -> dict[str, str]:
    """The environment variables that the image's last stage sets."""
    found: dict[str, str] = {}
    for instruction in dockerfile():
        if instruction.name == "FROM":
            found = {}
        elif instruction.name == "ENV":
            found |= dict(word.split("=", 1) for word in shlex.split(instruction.text))
    return found


def build_context(root: Path = ROOT) -> list[PurePosixPath]:
    """The files that ``docker build`` would send: all files that .dockerignore does not exclude.

    As in Docker, the last matching line decides. A pattern also covers the files below a matching folder, and ``!``
    includes them again.
    """
    lines = [line.strip() for line in (root / ".dockerignore").read_text().splitlines()]
    patterns = [(line.lstrip("!"), line.startswith("!")) for line in lines if line and not line.startswith("#")]

    def is_kept(path: PurePosixPath) -> bool:
        kept = True
        names = [path, *path.parents[:-1]]
        for pattern, includes_again in patterns:
            if any(_matches(name, pattern) for name in names):
                kept = includes_again
        return kept

    skipped = {".git", ".venv", ".nexus", ".mypy_cache", ".hypothesis", ".ruff_cache", ".pytest_cache"}
    found = []
    for top in root.iterdir():
        if top.name in skipped:
            # Too many files to check one by one. The assertion checks that the whole folder is excluded.
            assert not is_kept(PurePosixPath(top.name)), top.name
            continue
        for file in [top] if top.is_file() else top.rglob("*"):
            relative = PurePosixPath(file.relative_to(root).as_posix())
            if file.is_file() and is_kept(relative):
                found.append(relative)
    return sorted(found)


def _matches(path: PurePosixPath, pattern: str) -> bool:
    if pattern.startswith("**/"):
        return any(fnmatchcase("/".join(path.parts[start:]), pattern[3:]) for start in range(len(path.parts)))
    parts = pattern.strip("/").split("/")
    return len(parts) == len(path.parts) and all(map(fnmatchcase, path.parts, parts))
