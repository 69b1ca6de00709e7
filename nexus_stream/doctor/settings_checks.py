"""The area ``settings``: find valid combinations that are dangerous or a mistake. Pure functions.

Invalid settings never reach these checks: `load_settings` lists all of them at once. `invalid_settings` converts that
list to findings.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from nexus_stream.doctor.finding import Finding, Severity, error, note, ok, warning
from nexus_stream.doctor.kafka_reach import parse_bootstrap
from nexus_stream.errors import ConfigurationError
from nexus_stream.host.addresses import is_loopback
from nexus_stream.settings import Role, Settings

__all__ = ["check_settings", "invalid_settings"]

_BULLET: Final = "  - "
_DOCS: Final = "docs/reference/configuration.md"


def invalid_settings(failure: ConfigurationError) -> list[Finding]:
    """Make one finding for each problem that `load_settings` lists."""
    problems = [line.removeprefix(_BULLET) for line in str(failure).splitlines() if line.startswith(_BULLET)]
    why = "No process starts. Nothing else was checked."
    findings = []
    for problem in problems or [str(failure)]:
        variable = problem.partition(":")[0]
        findings.append(error("settings.invalid", problem, why, f"Correct {variable} ({_DOCS})"))
    return findings


def check_settings(settings: Settings, roles: frozenset[Role], environ: Mapping[str, str]) -> list[Finding]:
    """Judge the combinations for the given roles.

    Args:
        settings: Valid settings.
        roles: The processes that use the settings.
        environ: The environment. Only it shows whether ``NEXUS_ENV`` is set.
    """
    findings = [*_kafka(settings), *_listeners(settings, roles)]
    if "enricher" in roles:
        findings += _enricher(settings)
    if settings.env == "production":
        if settings.log_level == "DEBUG":
            why = "The logs grow by some thousand lines a minute. They contain no personal data."
            findings.append(
                note("settings.log_level", "NEXUS_LOG_LEVEL=DEBUG in production", why, "NEXUS_LOG_LEVEL=INFO")
            )
    elif not environ.get("NEXUS_ENV") and not _all_loopback(settings):
        why = "Production's checks are off: TLS to the database, JSON logs, named origins."
        findings.append(
            note(
                "settings.env", "NEXUS_ENV is not set, but the brokers are other machines", why, "NEXUS_ENV=production"
            )
        )
    if not any(finding.severity.rank >= Severity.WARNING.rank for finding in findings):
        findings.insert(0, ok("settings.valid", f"valid, without dangerous combinations (NEXUS_ENV={settings.env})"))
    return findings


def _all_loopback(settings: Settings) -> bool:
    return all(is_loopback(host) for host, _ in parse_bootstrap(settings.kafka_bootstrap_servers))


def _kafka(settings: Settings) -> list[Finding]:
    findings = []
    is_plain = settings.kafka_security_protocol in {"PLAINTEXT", "SASL_PLAINTEXT"}
    if is_plain and not _all_loopback(settings):
        found = f"NEXUS_KAFKA_SECURITY_PROTOCOL={settings.kafka_security_protocol} to another machine"
        why = "A third party on the network can read every conversation" + (
            " and the password." if settings.kafka_security_protocol.startswith("SASL") else "."
        )
        fix = "NEXUS_KAFKA_SECURITY_PROTOCOL=SASL_SSL (or SSL), with the cluster's TLS port"
        make = error if settings.env == "production" else warning
        findings.append(make("settings.kafka_plain_text", found, why, fix))
    if settings.env == "production" and settings.topic_replication_factor < 3:
        found = f"NEXUS_TOPIC_REPLICATION_FACTOR={settings.topic_replication_factor} in production"
        why = "The loss of one or two disks loses accepted conversations of topics made with this setting."
        findings.append(warning("settings.replication", found, why, "NEXUS_TOPIC_REPLICATION_FACTOR=3"))
    return findings


def _listeners(settings: Settings, roles: frozenset[Role]) -> list[Finding]:
    findings = []
    if "console" in roles and not is_loopback(settings.console_host):
        if settings.console_token is None and settings.console_viewer_token is None:
            found = f"NEXUS_CONSOLE_HOST={settings.console_host} without NEXUS_CONSOLE_TOKEN"
            why = "The console shows personal data, so it refuses to start like this."
            fix = "NEXUS_CONSOLE_TOKEN=$(openssl rand -hex 16), or NEXUS_CONSOLE_HOST=127.0.0.1 and a tunnel"
            findings.append(error("settings.console_token", found, why, fix))
        elif not settings.console_https:
            found = f"NEXUS_CONSOLE_HOST={settings.console_host} with NEXUS_CONSOLE_HTTPS=false"
            why = "The browser also sends the login cookie without TLS, where a third party can read it."
            fix = "A proxy with TLS in front of the console, and NEXUS_CONSOLE_HTTPS=true"
            findings.append(warning("settings.console_https", found, why, fix))
    if "gateway" in roles and not settings.gateway_allowed_origins and settings.env != "development":
        why = "Pages of another origin can post but cannot read the answer: fetch() reports an error."
        fix = "NEXUS_GATEWAY_ALLOWED_ORIGINS=https://www.example.com"
        make = warning if settings.env == "production" else note
        findings.append(make("settings.gateway_origins", "NEXUS_GATEWAY_ALLOWED_ORIGINS is not set", why, fix))
    if settings.metrics_port is not None and not is_loopback(settings.metrics_host) and roles & {"gateway", "console"}:
        found = f"NEXUS_METRICS_HOST={settings.metrics_host}: metrics are served beyond this machine, without a login"
        why = "Metrics show traffic, spending and errors. They contain no personal data."
        fix = "Let only your Prometheus reach the port (firewall, network policy), or NEXUS_METRICS_HOST=127.0.0.1"
        findings.append(warning("settings.metrics_public", found, why, fix))
    if roles & {"enricher", "sink"} and not is_loopback(settings.web_host):
        found = f"NEXUS_WEB_HOST={settings.web_host}: a worker's health and metrics are served beyond this machine"
        why = "Anyone who can reach the port can read them. They contain no personal data."
        fix = "Let only the orchestrator and Prometheus reach the port, or NEXUS_WEB_HOST=127.0.0.1"
        findings.append(note("settings.web_public", found, why, fix))
    return findings


def _enricher(settings: Settings) -> list[Finding]:
    if settings.table_store == "memory" and settings.env == "production":
        why = "Every start reads the whole changelog, and memory holds every session."
        return [note("settings.table_store", "NEXUS_TABLE_STORE=memory", why, "NEXUS_TABLE_STORE=rocksdb and a volume")]
    return []
