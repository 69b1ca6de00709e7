"""What a check found, and what a whole run comes to.

From: the checks of this package. To: printing.py, and the exit code. The ids, severities and JSON fields are a contract
with scripts: docs/reference/doctor.md lists them, a test holds both together.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, Final

from nexus_stream import __version__

__all__ = [
    "EX_CONFIG",
    "JSON_VERSION",
    "Area",
    "Finding",
    "Report",
    "Severity",
    "error",
    "note",
    "ok",
    "warning",
]

JSON_VERSION: Final = 1
# sysexits.h: the workers end with it too when a setting is at fault.
EX_CONFIG: Final = 78


class Area(StrEnum):
    """Where it was looked, in the order a report shows."""

    SETTINGS = "settings"
    HOST = "host"
    KAFKA = "kafka"
    POSTGRESQL = "postgresql"
    CLAUDE = "claude"
    REDIS = "redis"


class Severity(StrEnum):
    """How bad it is. ``note``: nothing is wrong, and the operator should know it, or it could not be checked."""

    OK = "ok"
    NOTE = "note"
    WARNING = "warning"
    ERROR = "error"

    @property
    def rank(self) -> int:
        """0 for ok; more is worse."""
        return list(Severity).index(self)


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was checked.

    Attributes:
        check: ``<area>.<name>``: stable, for scripts.
        found: What there is.
        why: What comes of it; empty when all is well.
        fix: The variable, command or SQL; empty when there is nothing to do.
    """

    check: str
    severity: Severity
    found: str
    why: str = ""
    fix: str = ""

    @property
    def area(self) -> Area:
        """Where it was looked."""
        return Area(self.check.partition(".")[0])


def ok(check: str, found: str) -> Finding:
    """All is well."""
    return Finding(check, Severity.OK, found)


def note(check: str, found: str, why: str = "", fix: str = "") -> Finding:
    """Worth knowing."""
    return Finding(check, Severity.NOTE, found, why, fix)


def warning(check: str, found: str, why: str, fix: str) -> Finding:
    """It works, and will hurt."""
    return Finding(check, Severity.WARNING, found, why, fix)


def error(check: str, found: str, why: str, fix: str) -> Finding:
    """It does not work, or loses data."""
    return Finding(check, Severity.ERROR, found, why, fix)


@dataclass(frozen=True, slots=True)
class Report:
    """A whole run.

    Attributes:
        findings: By area, in the order of the checks.
        is_invalid: Whether the configuration could not even be read, so that nothing was reached.
        seconds: How long it took.
    """

    findings: tuple[Finding, ...]
    is_invalid: bool = False
    seconds: float = 0.0

    @classmethod
    def of(cls, findings: Iterable[Finding], *, is_invalid: bool = False, seconds: float = 0.0) -> Report:
        """Sort by area; within one, the order stays."""
        areas = list(Area)
        return cls(tuple(sorted(findings, key=lambda finding: areas.index(finding.area))), is_invalid, seconds)

    def count(self, severity: Severity) -> int:
        """How many findings have it."""
        return sum(finding.severity is severity for finding in self.findings)

    def exit_code(self, *, strict: bool) -> int:
        """0, 1 with an error (or, if strict, a warning), 78 when the configuration is invalid."""
        if self.is_invalid:
            return EX_CONFIG
        is_bad = self.count(Severity.ERROR) > 0 or (strict and self.count(Severity.WARNING) > 0)
        return 1 if is_bad else 0

    def of_area(self, area: Area) -> Sequence[Finding]:
        """One area's findings."""
        return [finding for finding in self.findings if finding.area is area]

    def as_json(self, *, strict: bool) -> dict[str, Any]:
        """The document of ``--json``."""
        return {
            "schema_version": JSON_VERSION,
            "nexus_version": __version__,
            "exit_code": self.exit_code(strict=strict),
            "strict": strict,
            "seconds": round(self.seconds, 3),
            "counts": {severity.value: self.count(severity) for severity in Severity},
            "findings": [
                {"area": finding.area.value, **asdict(finding), "severity": finding.severity.value}
                for finding in self.findings
            ],
        }
