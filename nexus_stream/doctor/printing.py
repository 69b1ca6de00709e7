"""Print a report for people: findings by area, as plain text that is readable in a CI log.

click uses colours only on a terminal.
"""

from __future__ import annotations

import textwrap
from typing import Final

import click

from nexus_stream.doctor.finding import Area, DoctorReport, Finding, Severity

__all__ = ["print_report"]

_COLOURS: Final = {
    Severity.OK: "green",
    Severity.NOTE: "cyan",
    Severity.WARNING: "yellow",
    Severity.ERROR: "red",
}
_WIDTH: Final = 110
_INDENT: Final = " " * 12


def print_report(report: DoctorReport, *, strict: bool) -> None:
    """Print the report."""
    for area in Area:
        findings = report.of_area(area)
        if not findings:
            continue
        click.secho(area.value, bold=True)
        for finding in findings:
            _print_finding(finding)
        click.echo()
    counts = ", ".join(f"{report.count(severity)} {severity.value}" for severity in reversed(Severity))
    code = report.exit_code(strict=strict)
    click.echo(f"{counts}; {report.seconds:.1f} s; exit code {code}")


def _print_finding(finding: Finding) -> None:
    head = click.style(f"  {finding.severity.value:<8}", fg=_COLOURS[finding.severity])
    lines = finding.found.splitlines() or [""]
    body = textwrap.wrap(lines[0], _WIDTH, break_long_words=False, break_on_hyphens=False) or [""]
    for line in lines[1:]:
        body += textwrap.wrap(line, _WIDTH, break_long_words=False, break_on_hyphens=False)
    click.echo(f"{head}  {body[0]}")
    for line in body[1:]:
        click.echo(f"{_INDENT}{line}")
    if finding.why:
        _print_part("why", finding.why)
    if finding.fix:
        _print_part("fix", finding.fix)


def _print_part(label: str, text: str) -> None:
    # Do not wrap the text: the reader may copy a command or SQL from it.
    click.echo(f"{_INDENT}{label}: {text}")
