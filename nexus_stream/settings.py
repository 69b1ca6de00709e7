"""Every setting of every process, validated once at start.

From: environment variables (prefix ``NEXUS_``, plus usual names: ``ANTHROPIC_API_KEY``, ``SUPABASE_DB_URL``, ``PORT``)
and a ``.env`` file in the working directory. Callers pass the settings on; no code reads ``os.environ`` later.
``load_settings`` reports all problems at once, each with its variable and a fix, and without values.
"""

from __future__ import annotations

import base64
import difflib
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit
from uuid import UUID

from pydantic import AfterValidator, AliasChoices, Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict

from nexus_stream.errors import ConfigurationError
from nexus_stream.providers import PROVIDERS, Provider, ProviderName

__all__ = ["Role", "Settings", "load_settings", "provider_of"]

Role = Literal["gateway", "enricher", "sink", "console", "tool"]

_PositiveSeconds = Annotated[float, Field(gt=0)]
_Seconds = Annotated[float, Field(ge=0)]
_UPSTASH_PREFIX = "UPSTASH_KAFKA_REST_"
_PRODUCTION = "production"
_MIN_TOKEN_CHARS = 16
_MIN_SIGNING_KEY_BYTES = 24
_SHA256 = re.compile(r"sha256:[0-9a-f]{64}")
# The name of a key or a secret: a label of metrics.
_SECRET_NAME = re.compile(r"[A-Za-z0-9_-]{1,32}")
# As browsers send it, or with any port; not a path, and no part of a host.
_ORIGIN = re.compile(
    r"\*|null|[a-z][a-z0-9+.-]*://(\[[0-9a-f:.]+\]|[^\s/?#*:@\[\]]+)(:([0-9]{1,5}|\*))?/?", re.IGNORECASE
)
# As in contracts/session_key.py, which imports no settings and is not imported here: contracts/ imports this file.
_TENANT = re.compile(r"[A-Za-z0-9_.-]{0,64}")
_REDIS_SCHEMES = ("redis://", "rediss://", "unix://")


def _known_region(region: str) -> str:
    # Its tables cost time to load, and only these settings need them.
    from phonenumbers import SUPPORTED_REGIONS

    if region == "UK":
        raise ValueError("GB is the code of the United Kingdom")
    if region not in SUPPORTED_REGIONS:
        raise ValueError("write a country's code of two capital letters (ISO 3166), as CO or MX")
    return region


_Region = Annotated[str, AfterValidator(_known_region)]


class Settings(BaseSettings):
    """All settings. ``.env.example`` explains each variable; a test compares the two."""

    model_config = SettingsConfigDict(
        env_prefix="NEXUS_", frozen=True, hide_input_in_errors=True, extra="ignore", populate_by_name=True
    )

    env: Literal["development", "test", "production"] = "development"

    # Kafka. A provider's preset (providers.py) replaces the defaults of variables that are not set.
    kafka_provider: ProviderName | None = None
    kafka_bootstrap_servers: Annotated[str, Field(min_length=3)] = "127.0.0.1:9092"
    kafka_security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    kafka_sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"] = "PLAIN"
    kafka_username: str | None = None
    kafka_password: SecretStr | None = None
    # With OAUTHBEARER: a file with the token, read for each connection; or the region of an MSK cluster.
    kafka_oauth_token_file: Path | None = None
    kafka_aws_region: Annotated[str | None, Field(pattern=r"^[a-z]{2}(-[a-z]+)+-[0-9]+$")] = None
    kafka_ca_file: Path | None = None
    kafka_client_cert_file: Path | None = None
    kafka_client_key_file: Path | None = None
    kafka_request_timeout_seconds: _PositiveSeconds = 10.0
    kafka_connections_max_idle_seconds: _PositiveSeconds = 540.0
    kafka_metadata_max_age_seconds: _PositiveSeconds = 300.0
    # The largest request to the broker, if the provider limits it.
    kafka_request_max_bytes: Annotated[int | None, Field(ge=65_536)] = None
    kafka_fetch_max_wait_seconds: _PositiveSeconds = 0.5
    kafka_session_timeout_seconds: _PositiveSeconds = 30.0
    kafka_heartbeat_interval_seconds: _PositiveSeconds = 3.0
    kafka_rebalance_timeout_seconds: _PositiveSeconds = 60.0
    # Must be above the longest pause: a worker without a poll for longer leaves its group and never reads again. If
    # unset, it is a day with a daily budget, because the worker may wait that long.
    kafka_max_poll_interval_seconds: _PositiveSeconds = 3600.0
    topic_prefix: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{0,100}$")] = ""
    topic_partitions: Annotated[int, Field(ge=1, le=1000)] = 6
    topic_replication_factor: Annotated[int, Field(ge=1, le=7)] = 1
    ingestion_retention_hours: Annotated[int, Field(ge=1)] = 72
    enriched_retention_hours: Annotated[int, Field(ge=1)] = 168
    dead_letter_retention_hours: Annotated[int, Field(ge=1)] = 336

    # Workers
    enricher_app_id: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,100}$")] = "nexus-enricher"
    sink_app_id: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,100}$")] = "nexus-sink"
    data_dir: Path = Path(".nexus/data")
    table_store: Literal["rocksdb", "memory"] = "rocksdb"
    web_host: str = "127.0.0.1"
    web_port: Annotated[int, Field(ge=0, le=65535)] = 0
    commit_interval_seconds: _PositiveSeconds = 1.0
    stop_timeout_seconds: _PositiveSeconds = 25.0
    # If there are records to read but no progress for this long, the worker is not ready, and logs one event.
    watchdog_seconds: _PositiveSeconds = 180.0
    watchdog_exit: bool = False

    # Settling: a session is extracted after this quiet time, at the latest after the maximum wait.
    settle_seconds: _Seconds = 10.0
    max_wait_seconds: _Seconds = 60.0
    batch_max_sessions: Annotated[int, Field(ge=1)] = 50
    batch_max_wait_seconds: _Seconds = 0.05
    # Backpressure: above either bound the enricher stops reading until work is done.
    pending_max_sessions: Annotated[int, Field(ge=1)] = 5000
    pending_max_bytes: Annotated[int, Field(ge=65_536)] = 64 * 1024 * 1024

    # Limits on conversations
    max_body_bytes: Annotated[int, Field(ge=1024, le=10_000_000)] = 262_144
    # Bytes of a request on the wire: attachments and tool results come with a history, and are not kept.
    max_request_bytes: Annotated[int, Field(ge=1024, le=64 * 1024 * 1024)] = 2 * 1024 * 1024
    max_turns: Annotated[int, Field(ge=1, le=2000)] = 200
    max_turn_chars: Annotated[int, Field(ge=1)] = 8000
    max_id_chars: Annotated[int, Field(ge=8, le=1024)] = 256

    # Gateway
    gateway_host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535, validation_alias=AliasChoices("NEXUS_GATEWAY_PORT", "PORT"))] = 8080
    gateway_allowed_origins: Annotated[tuple[str, ...], NoDecode] = ()
    gateway_requests_per_minute: Annotated[int, Field(ge=1)] = 120
    gateway_trusted_proxies: Annotated[int, Field(ge=0, le=10)] = 0
    # Keys of the site's servers: <name>:sha256:<hex>,... `nexus gateway key` makes one.
    gateway_server_keys: Annotated[dict[str, SecretStr], NoDecode] = {}
    # Secrets that prove a visitor's identity: <name>:<secret>,...
    gateway_identity_secrets: Annotated[dict[str, SecretStr], NoDecode] = {}
    gateway_stop_seconds: _PositiveSeconds = 10.0

    # Extraction
    extractor: Literal["auto", "claude", "offline", "none"] = "auto"
    anthropic_api_key: Annotated[
        SecretStr | None, Field(validation_alias=AliasChoices("ANTHROPIC_API_KEY", "NEXUS_ANTHROPIC_API_KEY"))
    ] = None
    anthropic_base_url: Annotated[
        str | None, Field(validation_alias=AliasChoices("ANTHROPIC_BASE_URL", "NEXUS_ANTHROPIC_BASE_URL"))
    ] = None
    claude_model: str = "claude-haiku-5-5"
    claude_max_tokens: Annotated[int, Field(ge=256, le=8192)] = 1024
    claude_timeout_seconds: _PositiveSeconds = 30.0
    # Bound on one extraction: the call, the second call after a bad answer, and the waits between them. Not on a
    # conversation: the enricher retries it while Claude is unavailable.
    claude_deadline_seconds: _PositiveSeconds = 120.0
    # Bounds open connections and memory. A rate limit needs rate x latency of them: 1,000 a minute at 1.5 s are 25.
    claude_concurrency: Annotated[int, Field(ge=1, le=500)] = 64
    claude_retry_after_max_seconds: _PositiveSeconds = 60.0
    claude_max_attempts: Annotated[int, Field(ge=1, le=50)] = 5
    # The account's rate limits. Unset: learned from the API's answers. Set: never more than this.
    claude_requests_per_minute: Annotated[int | None, Field(ge=1)] = None
    claude_input_tokens_per_minute: Annotated[int | None, Field(ge=1000)] = None
    claude_output_tokens_per_minute: Annotated[int | None, Field(ge=1000)] = None
    # This worker's share of the rate limits and of the budget: 0.25 for each of four workers.
    claude_share: Annotated[float, Field(gt=0, le=1)] = 1.0
    claude_breaker_failures: Annotated[int, Field(ge=1)] = 5
    claude_breaker_seconds: _PositiveSeconds = 15.0
    claude_spend_limit_pause_seconds: _PositiveSeconds = 300.0
    # USD per million tokens by model, over the built-in list prices.
    claude_prices_file: Path | None = None
    # Cap on spending at list price; unset: none. At the cap the enricher waits, or the offline rules answer (labelled).
    budget_usd_per_hour: Annotated[float | None, Field(gt=0)] = None
    budget_usd_per_day: Annotated[float | None, Field(gt=0)] = None
    budget_fallback: Literal["wait", "offline"] = "wait"
    # Cache of answers for equal turns: in memory (0 disables it), or in Redis if an address is set.
    cache_max_entries: Annotated[int, Field(ge=0)] = 10_000
    cache_ttl_seconds: Annotated[int, Field(ge=1)] = 86_400
    cache_timeout_seconds: _PositiveSeconds = 0.25
    redis_url: SecretStr | None = None
    # Whether a conversation with `consent: false` in its metadata is not extracted.
    consent_respected: bool = True
    # A session without new turns for this long is forgotten; unset: never.
    retention_days: Annotated[float | None, Field(gt=0)] = None
    # Country of phone numbers without a country code, if neither the chat nor the page's address names one.
    default_region: _Region = "CO"
    # The same by tenant: acme=MX,other=BR.
    tenant_regions: Annotated[dict[str, _Region], NoDecode] = {}

    # Sink
    database_url: Annotated[
        SecretStr | None, Field(validation_alias=AliasChoices("SUPABASE_DB_URL", "NEXUS_DATABASE_URL"))
    ] = None
    sink_batch_max_rows: Annotated[int, Field(ge=1, le=5000)] = 500
    sink_batch_max_wait_seconds: _Seconds = 0.05
    sink_pending_max_rows: Annotated[int, Field(ge=1)] = 5000
    database_pool_max: Annotated[int, Field(ge=1, le=20)] = 4
    database_statement_timeout_seconds: _PositiveSeconds = 15.0
    database_connect_timeout_seconds: _PositiveSeconds = 10.0
    # The pooler before the server. auto: found by Supabase's ports and names, otherwise by a test query.
    database_pooler_mode: Literal["auto", "none", "session", "transaction"] = "auto"
    # tables: our own tables and merge. function: an installation's own update_prospect_data.
    sink_mode: Literal["tables", "function"] = "tables"
    # The third argument of update_prospect_data per tenant: acme=<uuid>,other=<uuid>; =<uuid> for no tenant.
    tenant_constructors: Annotated[dict[str, UUID], NoDecode] = {}

    # Console
    console_host: str = "127.0.0.1"
    console_port: Annotated[int, Field(ge=0, le=65535)] = 8090
    # Operators act and see personal data, viewers see it masked. Without a token only requests from its own host work.
    console_token: SecretStr | None = None
    console_viewer_token: SecretStr | None = None
    # Additional host names that the console accepts, for example behind a reverse proxy.
    console_hosts: Annotated[tuple[str, ...], NoDecode] = ()
    console_https: bool = False
    console_trusted_proxies: Annotated[int, Field(ge=0, le=10)] = 0
    console_session_hours: Annotated[float, Field(gt=0, le=720)] = 12.0
    console_max_events: Annotated[int, Field(ge=1000)] = 100_000
    console_max_letters: Annotated[int, Field(ge=1000)] = 50_000

    # Alerts: the console checks, shows, logs and sends them. They fire above these thresholds.
    alert_lag_records: Annotated[int, Field(ge=0)] = 100
    alert_error_rate: Annotated[float, Field(ge=0, le=1)] = 0.05
    alert_latency_seconds: _PositiveSeconds = 5.0
    alert_waiting_seconds: _PositiveSeconds = 30.0
    alert_no_progress_seconds: _PositiveSeconds = 60.0
    # Errors, latencies and dead letters count in this window.
    alert_window_seconds: Annotated[float, Field(ge=10, le=3600)] = 300.0
    # A condition must hold, or be gone, for this long. The limits are low, because a failure to save must be reported
    # within a minute.
    alert_for_seconds: Annotated[float, Field(ge=0, le=30)] = 10.0
    alert_clear_seconds: Annotated[float, Field(ge=0, le=3600)] = 20.0
    # Secret, because the address may hold a token.
    alert_webhook_url: SecretStr | None = None
    alert_webhook_secret: SecretStr | None = None
    # An alert's link begins with this; the alert's name follows.
    alert_runbook_url: str = "docs/howto/runbook.md#"

    # Metrics: the gateway and the console serve them here, if the port is set; enricher and sink on their web port.
    metrics_host: str = "127.0.0.1"
    metrics_port: Annotated[int | None, Field(ge=0, le=65535)] = None

    # Logs
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    log_format: Literal["auto", "json", "console"] = "auto"
    # all: one line per finished record, so that every message's outcome is in the log. unusual: only dead letters,
    # commands and results that were emitted again.
    log_outcomes: Literal["all", "unusual"] = "all"

    @field_validator("gateway_server_keys", mode="before")
    @classmethod
    def _split_keys(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        named = _split_named(value, "<name>:sha256:<hex>")
        hashes = {name: text.lower() for name, text in named.items()}
        if not all(_SHA256.fullmatch(text) for text in hashes.values()):
            raise ValueError("write <name>:sha256:<64 hex digits>; `nexus gateway key` makes a key and its hash")
        return {name: text.removeprefix("sha256:") for name, text in hashes.items()}

    @field_validator("gateway_identity_secrets", mode="before")
    @classmethod
    def _split_secrets(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        named = _split_named(value, "<name>:<secret>")
        if any(len(secret) < _MIN_TOKEN_CHARS for secret in named.values()):
            raise ValueError(f"at least {_MIN_TOKEN_CHARS} characters a secret; `openssl rand -hex 32` makes one")
        return named

    @field_validator("tenant_constructors", "tenant_regions", mode="before")
    @classmethod
    def _split_pairs(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        parts = _split_list(value)
        if any("=" not in part for part in parts):
            raise ValueError("write <tenant>=<value>, with commas between them")
        pairs = {tenant.strip(): constructor.strip() for tenant, _, constructor in (p.partition("=") for p in parts)}
        if len(pairs) < len(parts):
            raise ValueError("a tenant occurs twice")
        return pairs

    @field_validator("tenant_regions")
    @classmethod
    def _require_tenants(cls, value: dict[str, str]) -> dict[str, str]:
        if not all(_TENANT.fullmatch(tenant) for tenant in value):
            raise ValueError("a tenant has letters, digits, '_', '.' and '-' only, at most 64")
        return value

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Accept only explicit values: ``load_settings`` passes the environment, so a test can pass another."""
        return (init_settings,)

    @property
    def ingestion_topic(self) -> str:
        """The topic of conversations and session commands."""
        return f"{self.topic_prefix}nexus-prospect-ingestion"

    @property
    def enriched_topic(self) -> str:
        """The topic of enriched prospects and erased sessions."""
        return f"{self.topic_prefix}prospects-enriched"

    @property
    def dead_letter_topic(self) -> str:
        """The topic of dead letters."""
        return f"{self.topic_prefix}nexus-prospect-dlq"

    @property
    def status_topic(self) -> str:
        """The topic of the processes' status."""
        return f"{self.topic_prefix}nexus-status"

    @property
    def sessions_changelog_topic(self) -> str:
        """The compacted topic that rebuilds the session table; Faust chooses the name."""
        return f"{self.enricher_app_id}-sessions-changelog"

    @property
    def use_claude(self) -> bool:
        """Whether Claude extracts, or the offline rules do."""
        return self.extractor == "claude" or (self.extractor == "auto" and self.anthropic_api_key is not None)


def _variables() -> dict[str, str]:
    """Variable name -> field name, for every accepted name."""
    names: dict[str, str] = {}
    for field_name, info in Settings.model_fields.items():
        alias = info.validation_alias
        if isinstance(alias, AliasChoices):
            for choice in alias.choices:
                names[str(choice)] = field_name
        else:
            names[f"NEXUS_{field_name.upper()}"] = field_name
    return names


def _from_dotenv(path: Path) -> dict[str, str]:
    from dotenv import dotenv_values

    return {key: value for key, value in dotenv_values(path).items() if value is not None}


def _split_list(value: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in value.split(",") if part.strip())


def _split_named(value: str, form: str) -> dict[str, str]:
    """``name:text,name:text``: name -> text."""
    pairs = [part.partition(":") for part in _split_list(value)]
    if not all(_SECRET_NAME.fullmatch(name) and text for name, _, text in pairs):
        raise ValueError(f"write {form}, with commas between them; a name has letters, digits, - and _, at most 32")
    named = {name: text for name, _, text in pairs}
    if len(named) < len(pairs):
        raise ValueError("a name occurs twice")
    return named


def load_settings(role: Role = "tool", environ: Mapping[str, str] | None = None, **overrides: Any) -> Settings:
    """Read, check and return the settings.

    Args:
        role: The process that starts: some roles need more settings (the sink needs a database).
        environ: Instead of ``.env`` and the process's environment.
        overrides: Field values that win over both (tests, ``nexus dev``).

    Raises:
        ConfigurationError: lists every problem at once, each with its variable and a fix; never a value.
    """
    if environ is None:
        environ = {**_from_dotenv(Path(".env")), **os.environ}
    variables = _variables()
    names_by_field = {field_name: variable for variable, field_name in reversed(variables.items())}
    values: dict[str, Any] = {}
    # Reversed, so that of two accepted names the first one listed wins.
    for variable, field_name in reversed(variables.items()):
        # An empty variable counts as unset, as in a .env file.
        if environ.get(variable, "") != "":
            values[field_name] = environ[variable]
            names_by_field[field_name] = variable
    # A platform gives each process type its own PORT: in the console's process it is the console's port.
    if role == "console" and "console_port" not in values and environ.get("PORT", "") != "":
        values["console_port"] = environ["PORT"]
        names_by_field["console_port"] = "PORT"
    for listed in ("gateway_allowed_origins", "console_hosts"):
        if isinstance(values.get(listed), str):
            values[listed] = _split_list(values[listed])
    values.update(overrides)
    explicit = frozenset(values)
    preset = PROVIDERS.get(values.get("kafka_provider", "local"))
    if preset is not None:
        values = {**preset.defaults, **values}

    problems = _environment_problems(environ, variables)
    settings: Settings | None = None
    try:
        # By field name: the aliases above are resolved already.
        settings = Settings(**values)
    except ValidationError as error:
        for problem in error.errors(include_url=False, include_input=False):
            field_name = str(problem["loc"][0]) if problem["loc"] else ""
            variable = names_by_field.get(field_name, field_name)
            problems.append(f"{variable}: {problem['msg']}.")
    if settings is not None:
        longest_pause_seconds = _longest_pause_seconds(settings)
        unset = "kafka_max_poll_interval_seconds" not in explicit
        if unset and settings.kafka_max_poll_interval_seconds < longest_pause_seconds:
            settings = settings.model_copy(update={"kafka_max_poll_interval_seconds": longest_pause_seconds})
        problems += _cross_checks(settings, role)
        problems += provider_problems(settings, explicit)
    if problems:
        listing = "\n".join(f"  - {problem}" for problem in problems)
        raise ConfigurationError(f"{len(problems)} configuration problem(s); nothing was started:\n{listing}")
    assert settings is not None  # noqa: S101 - no problems means it was built
    return settings


def _environment_problems(environ: Mapping[str, str], variables: Mapping[str, str]) -> list[str]:
    problems = [
        f"{name}: Upstash Kafka was retired. Use any Kafka cluster: set NEXUS_KAFKA_BOOTSTRAP_SERVERS, "
        "NEXUS_KAFKA_SECURITY_PROTOCOL, NEXUS_KAFKA_USERNAME and NEXUS_KAFKA_PASSWORD, and remove this one."
        for name in sorted(environ)
        if name.startswith(_UPSTASH_PREFIX) and environ[name]
    ]
    internal = {"NEXUS_REQUIRE"}
    for name in sorted(environ):
        if name.startswith("NEXUS_") and name not in variables and name not in internal:
            close = difflib.get_close_matches(name, variables, n=1)
            hint = f" Did you mean {close[0]}?" if close else " .env.example lists them all."
            problems.append(f"{name}: no such setting.{hint}")
    return problems


def _kafka_login_problems(settings: Settings) -> list[str]:
    problems: list[str] = []
    if (settings.kafka_client_cert_file is None) != (settings.kafka_client_key_file is None):
        problems.append("NEXUS_KAFKA_CLIENT_CERT_FILE, NEXUS_KAFKA_CLIENT_KEY_FILE: set both or neither.")
    if not settings.kafka_security_protocol.startswith("SASL"):
        return problems
    if settings.kafka_sasl_mechanism == "OAUTHBEARER":
        sources = (settings.kafka_oauth_token_file, settings.kafka_aws_region)
        if sources.count(None) != 1:
            problems.append(
                "NEXUS_KAFKA_OAUTH_TOKEN_FILE, NEXUS_KAFKA_AWS_REGION: one of them is needed for OAUTHBEARER, the "
                "second for MSK with IAM (NEXUS_KAFKA_PROVIDER=msk-iam)."
            )
        if settings.kafka_security_protocol == "SASL_PLAINTEXT" and settings.env == _PRODUCTION:
            problems.append("NEXUS_KAFKA_SECURITY_PROTOCOL: a token over SASL_PLAINTEXT can be read: use SASL_SSL.")
    elif not (settings.kafka_username and settings.kafka_password):
        problems.append(
            f"NEXUS_KAFKA_USERNAME, NEXUS_KAFKA_PASSWORD: both are needed for {settings.kafka_security_protocol} "
            f"with {settings.kafka_sasl_mechanism}."
        )
    return problems


def _longest_pause_seconds(settings: Settings) -> float:
    """The longest time that a worker at its cap may wait without reading: until old spending leaves the period."""
    if settings.budget_fallback != "wait":
        return 0.0
    if settings.budget_usd_per_day is not None:
        return 86_400.0
    return 3600.0 if settings.budget_usd_per_hour is not None else 0.0


def _cross_checks(settings: Settings, role: Role) -> list[str]:
    problems: list[str] = []
    if settings.max_wait_seconds < settings.settle_seconds:
        problems.append("NEXUS_MAX_WAIT_SECONDS: must not be below NEXUS_SETTLE_SECONDS.")
    if settings.watchdog_seconds <= settings.max_wait_seconds:
        problems.append("NEXUS_WATCHDOG_SECONDS: must be above NEXUS_MAX_WAIT_SECONDS: settling is not a stall.")
    problems += _kafka_login_problems(settings)
    if settings.extractor == "claude" and settings.anthropic_api_key is None:
        problems.append("ANTHROPIC_API_KEY: needed while NEXUS_EXTRACTOR=claude. Set it, or NEXUS_EXTRACTOR=offline.")
    if settings.redis_url is not None and not settings.redis_url.get_secret_value().startswith(_REDIS_SCHEMES):
        problems.append(f"NEXUS_REDIS_URL: must start with one of {', '.join(_REDIS_SCHEMES)}.")
    longest_pause_seconds = _longest_pause_seconds(settings)
    if settings.kafka_max_poll_interval_seconds < longest_pause_seconds:
        problems.append(
            f"NEXUS_KAFKA_MAX_POLL_INTERVAL_SECONDS: at least {longest_pause_seconds:.0f} with this budget, because a "
            "worker at its cap may wait that long. Leave it unset, or set NEXUS_BUDGET_FALLBACK=offline."
        )
    longest_topic_hours = max(settings.ingestion_retention_hours, settings.enriched_retention_hours)
    if settings.retention_days is not None and settings.retention_days * 24 < longest_topic_hours + 48:
        problems.append(
            f"NEXUS_RETENTION_DAYS: at least {(longest_topic_hours + 48) / 24:g}: otherwise a topic keeps records "
            "longer, and a replay brings a forgotten session back."
        )
    if role == "sink" and settings.database_url is None:
        problems.append(
            "SUPABASE_DB_URL: the sink needs it: postgresql://USER:PASSWORD@HOST:PORT/postgres "
            "(Supabase: Project settings > Database > Connection string)."
        )
    for variable, token in (
        ("NEXUS_CONSOLE_TOKEN", settings.console_token),
        ("NEXUS_CONSOLE_VIEWER_TOKEN", settings.console_viewer_token),
    ):
        if token is not None and len(token.get_secret_value()) < _MIN_TOKEN_CHARS:
            problems.append(f"{variable}: at least {_MIN_TOKEN_CHARS} characters; `openssl rand -hex 16` makes one.")
    tokens = [token.get_secret_value() for token in (settings.console_token, settings.console_viewer_token) if token]
    if len(set(tokens)) < len(tokens):
        problems.append("NEXUS_CONSOLE_VIEWER_TOKEN: must differ from NEXUS_CONSOLE_TOKEN.")
    problems += _webhook_problems(settings)
    if not all(_ORIGIN.fullmatch(origin) for origin in settings.gateway_allowed_origins):
        problems.append(
            "NEXUS_GATEWAY_ALLOWED_ORIGINS: write scheme and host as in https://www.example.com, without a path. "
            "http://localhost:* allows every port; * has no other use, except alone."
        )
    if settings.env == _PRODUCTION and "*" in settings.gateway_allowed_origins:
        problems.append("NEXUS_GATEWAY_ALLOWED_ORIGINS: name the sites in production; * allows every page.")
    if 3 * settings.kafka_heartbeat_interval_seconds > settings.kafka_session_timeout_seconds:
        problems.append(
            "NEXUS_KAFKA_HEARTBEAT_INTERVAL_SECONDS: must be at most a third of NEXUS_KAFKA_SESSION_TIMEOUT_SECONDS."
        )
    return problems


def _webhook_problems(settings: Settings) -> list[str]:
    url, secret = settings.alert_webhook_url, settings.alert_webhook_secret
    if url is None and secret is None:
        return []
    if url is None or secret is None:
        return ["NEXUS_ALERT_WEBHOOK_URL, NEXUS_ALERT_WEBHOOK_SECRET: set both or neither."]
    problems = []
    if not _is_web_address(url.get_secret_value()):
        problems.append("NEXUS_ALERT_WEBHOOK_URL: https://..., or http://... inside your own network.")
    if not _is_signing_secret(secret.get_secret_value()):
        problems.append(
            "NEXUS_ALERT_WEBHOOK_SECRET: whsec_ and at least 24 bytes in base64, as in Standard Webhooks: "
            'echo "whsec_$(openssl rand -base64 32)"'
        )
    return problems


def _is_web_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    return parts.scheme in {"http", "https"} and bool(parts.hostname)


def _is_signing_secret(secret: str) -> bool:
    """Whether a secret has the form of Standard Webhooks and is long enough; the library signs with any text."""
    try:
        key = base64.b64decode(secret.removeprefix("whsec_"), validate=True)
    except ValueError:
        return False
    return secret.startswith("whsec_") and len(key) >= _MIN_SIGNING_KEY_BYTES


def provider_of(settings: Settings) -> Provider:
    """The provider's preset; without a provider the preset of an own broker."""
    return PROVIDERS[settings.kafka_provider or "local"]


def provider_problems(settings: Settings, explicit: frozenset[str]) -> list[str]:
    """All settings that contradict the provider, each with its variable and a fix.

    Args:
        settings: The settings.
        explicit: Names of the fields that the user set, not the preset or the default.
    """
    if settings.kafka_provider is None:
        return []
    name, provider = settings.kafka_provider, provider_of(settings)
    problems = []
    for field_name, values in provider.allowed.items():
        if getattr(settings, field_name) not in values:
            problems.append(
                f"{_variable(field_name)}: {provider.title} accepts {' or '.join(str(value) for value in values)}. "
                f"Leave it unset with NEXUS_KAFKA_PROVIDER={name}."
            )
    problems += [
        f"{_variable(field_name)}: needed with NEXUS_KAFKA_PROVIDER={name}."
        for field_name in provider.needed
        if getattr(settings, field_name) is None
    ]
    problems += [
        f"{_variable(field_name)}: must not be set with NEXUS_KAFKA_PROVIDER={name}: {why}."
        for field_name, why in provider.refused.items()
        if field_name in explicit
    ]
    if name == "eventhubs":
        problems += _event_hubs_problems(settings)
    if provider.hosts:
        other_hosts = [
            host
            for host in (server.strip().rsplit(":", 1)[0] for server in settings.kafka_bootstrap_servers.split(","))
            if not host.endswith(provider.hosts)
        ]
        # A private link or a tunnel may have any name. Only the default address is certainly wrong.
        if other_hosts and "kafka_bootstrap_servers" not in explicit:
            problems.append(
                f"NEXUS_KAFKA_BOOTSTRAP_SERVERS: needed with NEXUS_KAFKA_PROVIDER={name}: "
                f"the addresses end in {provider.hosts[0]}."
            )
    return problems


def _event_hubs_problems(settings: Settings) -> list[str]:
    problems = []
    if settings.kafka_sasl_mechanism == "PLAIN" and settings.kafka_username != "$ConnectionString":
        problems.append("NEXUS_KAFKA_USERNAME: Event Hubs needs the literal text $ConnectionString. Leave it unset.")
    password = settings.kafka_password
    if (
        settings.kafka_sasl_mechanism == "PLAIN"
        and password
        and not password.get_secret_value().startswith("Endpoint=")
    ):
        problems.append(
            "NEXUS_KAFKA_PASSWORD: Event Hubs needs the namespace's whole connection string, from Endpoint=sb:// on."
        )
    if settings.kafka_connections_max_idle_seconds >= 240 or settings.kafka_metadata_max_age_seconds >= 240:
        problems.append(
            "NEXUS_KAFKA_CONNECTIONS_MAX_IDLE_SECONDS, NEXUS_KAFKA_METADATA_MAX_AGE_SECONDS: must be below 240: "
            "Event Hubs closes a connection that was idle for that time."
        )
    if settings.kafka_request_timeout_seconds < 20:
        problems.append("NEXUS_KAFKA_REQUEST_TIMEOUT_SECONDS: at least 20 with Event Hubs.")
    return problems


def _variable(field_name: str) -> str:
    return f"NEXUS_{field_name.upper()}"
