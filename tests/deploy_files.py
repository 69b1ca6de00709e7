"""What deploy/ and the Dockerfile say, as data: each process with its command, environment and time to stop.

From: the files an operator uses, as they are. To: tests/unit/deploy, which holds them against the settings and schemas,
and tests/integration/deploy, which follows the Dockerfile's instructions.
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
# In place of every secret that a form leaves open; long enough for a console's token.
SECRET = "0123456789abcdef"


@dataclass(frozen=True)
class Process:
    """One process as some file starts it."""

    name: str
    argv: tuple[str, ...]
    environment: Mapping[str, str]
    grace_seconds: float
    memory_limited: bool = True
    # What asks it how it is: port -> paths, or commands.
    probes: Mapping[int, tuple[str, ...]] = field(default_factory=dict)

    @property
    def role(self) -> Role:
        return role_of(self.argv)


def role_of(argv: tuple[str, ...]) -> Role:
    """The settings' role of a command of ours."""
    return process_type_of(list(argv)) or "tool"


def env_file(path: Path, *, uncomment: bool = False) -> dict[str, str]:
    """``NAME=value`` lines; with ``uncomment`` those behind a ``#`` without a space, too, the first one winning."""
    pattern = re.compile(r"^#?([A-Za-z_][A-Za-z0-9_]*)=(.*)$" if uncomment else r"^([A-Za-z_][A-Za-z0-9_]*)=(.*)$")
    found: dict[str, str] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        if matched := pattern.match(line):
            found.setdefault(matched[1], matched[2])
    return found


# Compose


def interpolate(text: str, variables: Mapping[str, str]) -> str:
    """``${NAME}``, ``${NAME:-default}`` and ``${NAME:?why}``, one inside the other, as Compose fills them in.

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
    """Our processes in a compose file (those whose command is ours)."""
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
    """The objects that a kustomization lists, with those of the ones it builds on; no patches, no transformers."""
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
    """The forms of secret.example.yaml, filled in."""
    documents = yaml.safe_load_all((KUBERNETES / "secret.example.yaml").read_text())
    return {
        document["metadata"]["name"]: {
            # Each token another one.
            key: value or f"{SECRET}-{key}"
            for key, value in document["stringData"].items()
        }
        for document in documents
        if document["kind"] == "Secret"
    }


def kubernetes_processes(objects: list[dict[str, Any]]) -> Iterator[Process]:
    """The containers of all Deployments, StatefulSets and Jobs, with the environment their pods give them."""
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
    """(section, directive, value) in order; a directive may stand several times."""
    section, found = "", []
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("["):
            section = line.strip("[]")
        elif line and not line.startswith(("#", ";")):
            name, _, value = line.partition("=")
            found.append((section, name, value))
    return found


def systemd_processes(instance: str = "1") -> Iterator[Process]:
    """Our services, as systemd would start their instance ``instance``."""
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
    """One instruction of a Dockerfile; ``argv`` of its JSON form, else None."""

    name: str
    text: str
    argv: tuple[str, ...] | None


def dockerfile(path: Path = ROOT / "Dockerfile") -> list[Instruction]:
    """Its instructions in order, continued lines joined, comments gone."""
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
    """What ENV sets in the image's last stage."""
    found: dict[str, str] = {}
    for instruction in dockerfile():
        if instruction.name == "FROM":
            found = {}
        elif instruction.name == "ENV":
            found |= dict(word.split("=", 1) for word in shlex.split(instruction.text))
    return found


def build_context(root: Path = ROOT) -> list[PurePosixPath]:
    """The files that ``docker build`` would send: all but what .dockerignore says, the last matching line deciding.

    As Docker does it: a pattern covers what lies below a folder that it matches, and ``!`` takes it back.
    """
    lines = [line.strip() for line in (root / ".dockerignore").read_text().splitlines()]
    patterns = [(line.lstrip("!"), line.startswith("!")) for line in lines if line and not line.startswith("#")]

    def is_kept(path: PurePosixPath) -> bool:
        kept = True
        names = [path, *path.parents[:-1]]
        for pattern, takes_back in patterns:
            if any(_matches(name, pattern) for name in names):
                kept = takes_back
        return kept

    skipped = {".git", ".venv", ".nexus", ".mypy_cache", ".hypothesis", ".ruff_cache", ".pytest_cache"}
    found = []
    for top in root.iterdir():
        if top.name in skipped:
            # Too many to look at one by one; test_the_build_context covers that they are ignored.
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
