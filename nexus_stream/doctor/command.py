"""``nexus doctor``: check all configured services, and report each problem, its effect and its fix.

The command prints a report and sets an exit code, for people and for CI. It changes nothing.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Final, get_args

import click

from nexus_stream.doctor.capacity_checks import check_capacity
from nexus_stream.doctor.claude_checks import check_claude
from nexus_stream.doctor.facts import MeasuredFacts
from nexus_stream.doctor.finding import Area, DoctorReport, Finding
from nexus_stream.doctor.host_checks import check_host
from nexus_stream.doctor.kafka_checks import check_kafka
from nexus_stream.doctor.postgres_checks import check_postgres
from nexus_stream.doctor.printing import print_report
from nexus_stream.doctor.redaction import Redaction
from nexus_stream.doctor.redis_checks import check_redis
from nexus_stream.doctor.running import AreaCheck, run, run_areas
from nexus_stream.doctor.settings_checks import check_settings, invalid_settings
from nexus_stream.errors import ConfigurationError
from nexus_stream.settings import Role, Settings, load_settings

__all__ = ["command", "examine", "examine_environment"]

_PROCESSES: Final[tuple[Role, ...]] = tuple(role for role in get_args(Role) if role != "tool")
# Time limit of one area. Contacts and checks have shorter limits.
_AREA_SECONDS: Final = 13.0
_QUIET: Final = ("aiokafka", "anthropic", "asyncio", "nexus_stream", "redis")


@click.command(name="doctor")
@click.option(
    "--role",
    "roles",
    type=click.Choice(_PROCESSES),
    multiple=True,
    help="Check the needs of this process; may be repeated. Default: all processes.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document instead of text.")
@click.option("--offline", is_flag=True, help="Use no network: check only the settings and this machine.")
@click.option("--strict", is_flag=True, help="Exit with 1 on a warning too.")
@click.option("--sinks", type=click.IntRange(1), help="Planned number of sinks. Default: the number that runs.")
def command(roles: tuple[Role, ...], as_json: bool, offline: bool, strict: bool, sinks: int | None) -> None:
    """Check all configured services, and report each problem, its effect and its fix.

    The command changes nothing. Exit code 0: no errors; 1: errors (with --strict also warnings); 78: the configuration
    is invalid.
    """
    with _quiet_libraries():
        report = examine_environment(frozenset(roles), offline=offline, sinks=sinks)
    if as_json:
        click.echo(json.dumps(report.as_json(strict=strict), ensure_ascii=False, indent=2))
    else:
        print_report(report, strict=strict)
    sys.exit(report.exit_code(strict=strict))


@contextmanager
def _quiet_libraries() -> Iterator[None]:
    """Silence the libraries' logs: the findings report the same problems, and add the fix."""
    loggers = [logging.getLogger(name) for name in _QUIET]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def examine_environment(
    roles: frozenset[Role] = frozenset(),
    *,
    offline: bool = False,
    sinks: int | None = None,
    environ: Mapping[str, str] | None = None,
) -> DoctorReport:
    """Load the settings for the roles and run all checks.

    Args:
        roles: The processes to check. Empty: all processes; one that cannot run yet gets a note.
        offline: Whether to use no network.
        sinks: The planned number of sinks.
        environ: Replaces ``.env`` and the process's environment.
    """
    settings: Settings | None = None
    invalid: dict[Finding, None] = {}
    # Each role has its own required settings. Example: a sink needs a database.
    for role in sorted(roles) or ["tool"]:
        try:
            settings = load_settings(role, environ)
        except ConfigurationError as failure:
            invalid |= dict.fromkeys(invalid_settings(failure))
    if invalid or settings is None:
        hide = Redaction(settings)
        return DoctorReport.of([hide.apply(finding) for finding in invalid], is_invalid=True)
    settings_found = settings
    report, seconds = run(
        examine(
            settings_found,
            roles or frozenset(_PROCESSES),
            roles_are_named=bool(roles),
            offline=offline,
            sinks=sinks,
            environ=os.environ if environ is None else environ,
        )
    )
    return DoctorReport(report.findings, report.is_invalid, seconds)


async def examine(
    settings: Settings,
    roles: frozenset[Role],
    *,
    roles_are_named: bool = False,
    offline: bool = False,
    sinks: int | None = None,
    environ: Mapping[str, str],
) -> DoctorReport:
    """Check all areas concurrently. A problem in one area does not hide the others."""
    facts = MeasuredFacts()
    today = datetime.now(UTC).date()
    areas: dict[Area, AreaCheck] = {Area.HOST: lambda: check_host(settings, roles)}
    if "enricher" in roles:
        areas[Area.CLAUDE] = lambda: check_claude(settings, offline=offline, today=today)
    if not offline:
        areas[Area.KAFKA] = lambda: check_kafka(settings, roles, facts, roles_are_named=roles_are_named)
        if roles & {"sink", "console"}:
            areas[Area.POSTGRESQL] = lambda: check_postgres(settings, facts)
        if "enricher" in roles:
            areas[Area.REDIS] = lambda: check_redis(settings)
    findings = check_settings(settings, roles, environ)
    findings += await run_areas(areas, _AREA_SECONDS)
    findings += check_capacity(settings, roles, facts, sinks=sinks)
    hide = Redaction(settings)
    return DoctorReport.of(hide.apply(finding) for finding in findings)
