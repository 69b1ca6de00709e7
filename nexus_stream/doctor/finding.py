"""The result of one check, and the report of a whole run.

Scripts depend on the ids, severities and JSON fields. docs/reference/doctor.md lists them, and a test compares the list
with the code.
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
    "DoctorReport",
    "Finding",
    "Severity",
    "error",
    "note",
    "ok",
    "warning",
]

JSON_VERSION: Final = 1
# sysexits.h. The workers use this exit code too when a setting is wrong.
EX_CONFIG: Final = 78


class Area(StrEnum):
    """The areas of checks, in the order of the report."""

    SETTINGS = "settings"
    HOST = "host"
    KAFKA = "kafka"
    POSTGRESQL = "postgresql"
    CLAUDE = "claude"
    REDIS = "redis"


class Severity(StrEnum):
    """The severity. ``note``: nothing is wrong, but the operator should know this; or the check was not possible."""

    OK = "ok"
    NOTE = "note"
    WARNING = "warning"
    ERROR = "error"

    @property
    def rank(self) -> int:
        """0 for ok; higher is worse."""
        return list(Severity).index(self)


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check.

    Attributes:
        check: The id ``<area>.<name>``, stable for scripts.
        found: The observed state.
        why: The effect of a problem; empty if there is no problem.
        fix: The variable, command or SQL that fixes the problem; empty if there is nothing to do.
    """

    check: str
    severity: Severity
    found: str
    why: str = ""
    fix: str = ""

    @property
    def area(self) -> Area:
        """The area of the check."""
        return Area(self.check.partition(".")[0])


def ok(check: str, found: str) -> Finding:
    """Make a finding without a problem."""
    return Finding(check, Severity.OK, found)


def note(check: str, found: str, why: str = "", fix: str = "") -> Finding:
    """Make a finding that is worth knowing."""
    return Finding(check, Severity.NOTE, found, why, fix)


def warning(check: str, found: str, why: str, fix: str) -> Finding:
    """Make a finding about something that works now but will cause problems."""
    return Finding(check, Severity.WARNING, found, why, fix)


def error(check: str, found: str, why: str, fix: str) -> Finding:
    """Make a finding about something that does not work or loses data."""
    return Finding(check, Severity.ERROR, found, why, fix)


@dataclass(frozen=True, slots=True)
class DoctorReport:
    """The report of a whole run.

    Attributes:
        findings: The findings by area, in the order of the checks.
        is_invalid: Whether the configuration is invalid, so that no service was contacted.
        seconds: The duration of the run.
    """

    findings: tuple[Finding, ...]
    is_invalid: bool = False
    seconds: float = 0.0

    @classmethod
    def of(cls, findings: Iterable[Finding], *, is_invalid: bool = False, seconds: float = 0.0) -> DoctorReport:
        """Make a report. Sort the findings by area, and keep the order within an area."""
        areas = list(Area)
        return cls(tuple(sorted(findings, key=lambda finding: areas.index(finding.area))), is_invalid, seconds)

    def count(self, severity: Severity) -> int:
        """Count the findings of a severity."""
        return sum(finding.severity is severity for finding in self.findings)

    def exit_code(self, *, strict: bool) -> int:
        """Return 0, or 1 with an error (if strict: or a warning), or 78 for an invalid configuration."""
        if self.is_invalid:
            return EX_CONFIG
        is_bad = self.count(Severity.ERROR) > 0 or (strict and self.count(Severity.WARNING) > 0)
        return 1 if is_bad else 0

    def of_area(self, area: Area) -> Sequence[Finding]:
        """Return the findings of one area."""
        return [finding for finding in self.findings if finding.area is area]

    def as_json(self, *, strict: bool) -> dict[str, Any]:
        """Return the document of ``--json``."""
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
