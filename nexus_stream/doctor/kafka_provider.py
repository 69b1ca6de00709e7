"""Judge the limits and caveats of the managed Kafka in use. Pure functions."""

from __future__ import annotations

from nexus_stream.contracts.topics import max_record_bytes
from nexus_stream.doctor.finding import Finding, note, ok, warning
from nexus_stream.doctor.kafka_reach import parse_bootstrap
from nexus_stream.providers import PROVIDERS
from nexus_stream.settings import Settings, provider_of

__all__ = ["judge_provider"]


def judge_provider(settings: Settings) -> list[Finding]:
    """Compare the provider's limits with the settings, and list its caveats."""
    hosts = [host for host, _ in parse_bootstrap(settings.kafka_bootstrap_servers)]
    if settings.kafka_provider is None:
        for name, known in PROVIDERS.items():
            if known.hosts and all(host.endswith(known.hosts) for host in hosts):
                why = "The provider's preset sets the options this service needs, and refuses options it cannot use."
                fix = f"NEXUS_KAFKA_PROVIDER={name} (docs/reference/providers.md)"
                return [note("kafka.provider", f"the addresses are {known.title}'s, but no provider is set", why, fix)]
        return []
    provider = provider_of(settings)
    findings = []
    if provider.request_max_bytes is not None and max_record_bytes(settings) > provider.request_max_bytes:
        largest_record = max_record_bytes(settings)
        found = (
            f"{provider.title} allows {provider.request_max_bytes} bytes per request, but a record may have "
            f"{largest_record} bytes"
        )
        largest = (provider.request_max_bytes - 65_536) // 2
        why = "It closes the connection on a larger request: a long conversation cannot be stored or dead-lettered."
        findings.append(warning("kafka.provider", found, why, f"NEXUS_MAX_BODY_BYTES={largest} or less"))
    findings += [note("kafka.provider", f"{provider.title}: {caveat}") for caveat in provider.caveats]
    return findings or [ok("kafka.provider", provider.title)]
