"""Settings: every problem at once, each with its variable and a fix, and never a value."""

from __future__ import annotations

from pathlib import Path
from uuid import uuid4

import pytest

from nexus_stream.errors import ConfigurationError
from nexus_stream.settings import Role, Settings, load_settings

SECRET = "s3cret-value-that-must-not-show"


def problems(environ: dict[str, str], role: Role = "tool") -> list[str]:
    with pytest.raises(ConfigurationError) as caught:
        load_settings(role, environ)
    first, *listed = str(caught.value).splitlines()
    assert first == f"{len(listed)} configuration problem(s); nothing was started:"
    return listed


def test_every_setting_is_optional() -> None:
    assert load_settings(environ={}) == Settings()


def test_all_problems_are_reported_at_once_each_with_its_variable() -> None:
    listed = problems({"NEXUS_TOPIC_PARTITIONS": "0", "NEXUS_MAX_TURNS": "many", "NEXUS_SETLE_SECONDS": "3"})
    assert len(listed) == 3
    for name in ("NEXUS_TOPIC_PARTITIONS", "NEXUS_MAX_TURNS", "NEXUS_SETLE_SECONDS"):
        assert any(name in line for line in listed)


def test_a_misspelt_name_gets_a_suggestion() -> None:
    assert problems({"NEXUS_SETLE_SECONDS": "3"}) == [
        "  - NEXUS_SETLE_SECONDS: no such setting. Did you mean NEXUS_SETTLE_SECONDS?"
    ]


def test_the_test_suites_own_variable_is_accepted() -> None:
    assert load_settings(environ={"NEXUS_REQUIRE": "kafka"}) == Settings()


@pytest.mark.parametrize(
    "environ",
    [
        {"NEXUS_WEB_PORT": SECRET},
        {"ANTHROPIC_API_KEY": SECRET, "NEXUS_PORT_TYPO": SECRET},
        {"NEXUS_CONSOLE_TOKEN": SECRET[:8]},
        {"NEXUS_REDIS_URL": f"http://:{SECRET}@127.0.0.1"},
        {"NEXUS_KAFKA_SECURITY_PROTOCOL": "SASL_SSL", "NEXUS_KAFKA_PASSWORD": SECRET},
        {"SUPABASE_DB_URL": f"postgresql://u:{SECRET}@h/d", "NEXUS_TOPIC_PARTITIONS": "-1"},
        {"UPSTASH_KAFKA_REST_PASSWORD": SECRET},
        {"NEXUS_GATEWAY_SERVER_KEYS": f"web:{SECRET}"},
        {"NEXUS_GATEWAY_IDENTITY_SECRETS": f"web:{SECRET},{SECRET}"},
        {"NEXUS_GATEWAY_IDENTITY_SECRETS": f"web:{SECRET[:8]}"},
    ],
    ids=lambda environ: next(iter(environ)),
)
def test_a_problem_never_shows_a_value(environ: dict[str, str]) -> None:
    assert not any(SECRET[:8] in line for line in problems(environ))


def test_secrets_do_not_show_in_the_settings_either() -> None:
    settings = load_settings(
        environ={
            "ANTHROPIC_API_KEY": SECRET,
            "SUPABASE_DB_URL": f"postgresql://u:{SECRET}@h/d",
            "NEXUS_CONSOLE_TOKEN": SECRET,
            "NEXUS_REDIS_URL": f"redis://:{SECRET}@h",
            "NEXUS_KAFKA_PASSWORD": SECRET,
        }
    )
    assert SECRET not in repr(settings)
    assert SECRET not in str(settings.model_dump())


def test_an_empty_variable_is_an_unset_one() -> None:
    assert load_settings(environ={"NEXUS_SETTLE_SECONDS": "", "PORT": "", "NEXUS_ENV": ""}) == Settings()


@pytest.mark.parametrize(
    ("environ", "port"),
    [
        ({"PORT": "5000"}, 5000),
        ({"NEXUS_GATEWAY_PORT": "6000", "PORT": "5000"}, 6000),
        ({"NEXUS_GATEWAY_PORT": "", "PORT": "5000"}, 5000),
    ],
)
def test_the_first_of_two_accepted_names_wins(environ: dict[str, str], port: int) -> None:
    assert load_settings("gateway", environ).port == port


def test_a_platforms_port_is_the_consoles_in_its_own_process_only() -> None:
    assert load_settings("console", {"PORT": "5000"}).console_port == 5000
    assert load_settings("gateway", {"PORT": "5000"}).console_port == 8090
    assert load_settings("console", {"PORT": "5000", "NEXUS_CONSOLE_PORT": "6000"}).console_port == 6000


def test_a_file_is_read_and_the_environment_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".env").write_text("NEXUS_SETTLE_SECONDS=3\nNEXUS_MAX_TURNS=7\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NEXUS_MAX_TURNS", "9")
    settings = load_settings()
    assert (settings.settle_seconds, settings.max_turns) == (3, 9)


def test_overrides_win_over_both() -> None:
    assert load_settings(environ={"NEXUS_SETTLE_SECONDS": "3"}, settle_seconds=0).settle_seconds == 0


def test_lists_are_split_at_commas() -> None:
    settings = load_settings(
        environ={
            "NEXUS_GATEWAY_ALLOWED_ORIGINS": " https://a.example , https://b.example,",
            "NEXUS_CONSOLE_HOSTS": "console.example",
            "NEXUS_TENANT_CONSTRUCTORS": f"acme={uuid4()}, ={uuid4()}",
        }
    )
    assert settings.gateway_allowed_origins == ("https://a.example", "https://b.example")
    assert settings.console_hosts == ("console.example",)
    assert sorted(settings.tenant_constructors) == ["", "acme"]


@pytest.mark.parametrize("value", ["acme", "acme=1,acme=2", "acme=not-a-uuid"])
def test_tenants_are_written_as_pairs_once_each(value: str) -> None:
    assert "NEXUS_TENANT_CONSTRUCTORS" in problems({"NEXUS_TENANT_CONSTRUCTORS": value})[0]


@pytest.mark.parametrize(
    ("role", "environ", "named"),
    [
        ("tool", {"NEXUS_MAX_WAIT_SECONDS": "5"}, "NEXUS_MAX_WAIT_SECONDS"),
        ("tool", {"NEXUS_WATCHDOG_SECONDS": "60"}, "NEXUS_WATCHDOG_SECONDS"),
        ("tool", {"NEXUS_KAFKA_SECURITY_PROTOCOL": "SASL_SSL", "NEXUS_KAFKA_USERNAME": "u"}, "NEXUS_KAFKA_PASSWORD"),
        ("tool", {"NEXUS_EXTRACTOR": "claude"}, "ANTHROPIC_API_KEY"),
        ("tool", {"NEXUS_REDIS_URL": "http://127.0.0.1"}, "NEXUS_REDIS_URL"),
        (
            "tool",
            {"NEXUS_BUDGET_USD_PER_DAY": "5", "NEXUS_KAFKA_MAX_POLL_INTERVAL_SECONDS": "86399"},
            "NEXUS_KAFKA_MAX_POLL_INTERVAL_SECONDS: at least 86400",
        ),
        (
            "tool",
            {"NEXUS_BUDGET_USD_PER_HOUR": "1", "NEXUS_KAFKA_MAX_POLL_INTERVAL_SECONDS": "60"},
            "NEXUS_KAFKA_MAX_POLL_INTERVAL_SECONDS: at least 3600",
        ),
        ("tool", {"NEXUS_RETENTION_DAYS": "8"}, "NEXUS_RETENTION_DAYS: at least 9"),
        ("sink", {}, "SUPABASE_DB_URL"),
        ("console", {"NEXUS_CONSOLE_TOKEN": "too-short"}, "NEXUS_CONSOLE_TOKEN: at least 16"),
        (
            "console",
            {"NEXUS_CONSOLE_TOKEN": "a" * 16, "NEXUS_CONSOLE_VIEWER_TOKEN": "a" * 16},
            "NEXUS_CONSOLE_VIEWER_TOKEN: must differ",
        ),
        (
            "gateway",
            {"NEXUS_ENV": "production", "NEXUS_GATEWAY_ALLOWED_ORIGINS": "*"},
            "NEXUS_GATEWAY_ALLOWED_ORIGINS",
        ),
        ("tool", {"NEXUS_KAFKA_HEARTBEAT_INTERVAL_SECONDS": "11"}, "NEXUS_KAFKA_HEARTBEAT_INTERVAL_SECONDS"),
    ],
)
def test_contradicting_settings_are_refused(role: Role, environ: dict[str, str], named: str) -> None:
    (problem,) = problems(environ, role)
    assert named in problem


@pytest.mark.parametrize(
    ("role", "environ"),
    [
        ("tool", {"NEXUS_MAX_WAIT_SECONDS": "10"}),
        ("tool", {"NEXUS_WATCHDOG_SECONDS": "60.5"}),
        ("tool", {"NEXUS_BUDGET_USD_PER_DAY": "5", "NEXUS_BUDGET_FALLBACK": "offline"}),
        ("tool", {"NEXUS_BUDGET_USD_PER_DAY": "5", "NEXUS_KAFKA_MAX_POLL_INTERVAL_SECONDS": "86400"}),
        ("tool", {"NEXUS_RETENTION_DAYS": "9"}),
        ("sink", {"NEXUS_DATABASE_URL": "postgresql://127.0.0.1/postgres"}),
        ("gateway", {"NEXUS_GATEWAY_ALLOWED_ORIGINS": "*"}),
        ("tool", {"NEXUS_KAFKA_HEARTBEAT_INTERVAL_SECONDS": "10"}),
    ],
)
def test_settings_at_the_bound_are_accepted(role: Role, environ: dict[str, str]) -> None:
    load_settings(role, environ)


@pytest.mark.parametrize(
    ("environ", "seconds"),
    [
        ({}, 3600),
        ({"NEXUS_BUDGET_USD_PER_HOUR": "1"}, 3600),
        ({"NEXUS_BUDGET_USD_PER_DAY": "5"}, 86_400),
        ({"NEXUS_BUDGET_USD_PER_DAY": "5", "NEXUS_KAFKA_MAX_POLL_INTERVAL_SECONDS": "90000"}, 90_000),
        ({"NEXUS_BUDGET_USD_PER_DAY": "5", "NEXUS_BUDGET_FALLBACK": "offline"}, 3600),
    ],
)
def test_a_waiting_budget_raises_the_poll_interval(environ: dict[str, str], seconds: float) -> None:
    assert load_settings(environ=environ).kafka_max_poll_interval_seconds == seconds


@pytest.mark.parametrize(
    ("role", "variable"), [("gateway", "PORT"), ("gateway", "NEXUS_GATEWAY_PORT"), ("console", "PORT")]
)
def test_a_problem_names_the_variable_that_was_set(role: Role, variable: str) -> None:
    assert problems({variable: "99999"}, role)[0].startswith(f"  - {variable}: ")


def test_a_retired_service_is_named_with_its_replacement() -> None:
    listed = problems({"UPSTASH_KAFKA_REST_URL": "https://x.example", "UPSTASH_KAFKA_REST_USERNAME": "u"})
    assert len(listed) == 2
    assert all("NEXUS_KAFKA_BOOTSTRAP_SERVERS" in line for line in listed)


@pytest.mark.parametrize(
    ("extractor", "key", "claude"),
    [
        ("auto", None, False),
        ("auto", "key", True),
        ("claude", "key", True),
        ("offline", "key", False),
        ("none", "key", False),
    ],
)
def test_claude_extracts_if_there_is_a_key_unless_set_otherwise(extractor: str, key: str | None, claude: bool) -> None:
    environ = {"NEXUS_EXTRACTOR": extractor, "ANTHROPIC_API_KEY": key or ""}
    assert load_settings(environ=environ).use_claude is claude


def test_the_prefix_goes_before_our_topics_and_the_app_id_names_the_changelog() -> None:
    settings = load_settings(environ={"NEXUS_TOPIC_PREFIX": "acme.", "NEXUS_ENRICHER_APP_ID": "acme-enricher"})
    assert settings.ingestion_topic == "acme.nexus-prospect-ingestion"
    assert settings.enriched_topic == "acme.prospects-enriched"
    assert settings.dead_letter_topic == "acme.nexus-prospect-dlq"
    assert settings.status_topic == "acme.nexus-status"
    assert settings.sessions_changelog_topic == "acme-enricher-sessions-changelog"


def test_settings_do_not_change() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Settings().max_turns = 1  # type: ignore[misc]


HASH = "ab" * 32


def test_server_keys_are_named_hashes() -> None:
    settings = load_settings(environ={"NEXUS_GATEWAY_SERVER_KEYS": f"web:sha256:{HASH}, web-2:SHA256:{'CD' * 32}"})
    keys = {name: value.get_secret_value() for name, value in settings.gateway_server_keys.items()}
    assert keys == {"web": HASH, "web-2": "cd" * 32}


@pytest.mark.parametrize(
    "value",
    [
        "web",
        f"sha256:{HASH}",
        f"web:{HASH}",
        f"web:md5:{HASH}",
        f"web:sha256:{HASH[1:]}",
        f"web:sha256:{HASH}0",
        f":sha256:{HASH}",
        f"a name:sha256:{HASH}",
        f"{'n' * 33}:sha256:{HASH}",
        f"web:sha256:{HASH},web:sha256:{'cd' * 32}",
    ],
)
def test_a_key_in_another_form_is_refused_at_the_start(value: str) -> None:
    (line,) = problems({"NEXUS_GATEWAY_SERVER_KEYS": value})
    assert line.startswith("  - NEXUS_GATEWAY_SERVER_KEYS: ")
    assert HASH[:8] not in line


def test_identity_secrets_are_named_and_may_hold_colons() -> None:
    settings = load_settings(environ={"NEXUS_GATEWAY_IDENTITY_SECRETS": f"web:{SECRET}:b,old:{SECRET}"})
    assert {name: value.get_secret_value() for name, value in settings.gateway_identity_secrets.items()} == {
        "web": f"{SECRET}:b",
        "old": SECRET,
    }
    assert SECRET not in repr(settings)
    assert SECRET not in str(settings.model_dump())


@pytest.mark.parametrize("value", [SECRET, f":{SECRET}", "web:short", f"web:{SECRET},web:{SECRET}2", "web:"])
def test_an_identity_secret_in_another_form_is_refused_at_the_start(value: str) -> None:
    (line,) = problems({"NEXUS_GATEWAY_IDENTITY_SECRETS": value})
    assert line.startswith("  - NEXUS_GATEWAY_IDENTITY_SECRETS: ")


def test_wrong_keys_and_secrets_are_reported_together() -> None:
    environ = {
        "NEXUS_GATEWAY_SERVER_KEYS": "web",
        "NEXUS_GATEWAY_IDENTITY_SECRETS": "web:short",
        "NEXUS_TOPIC_PARTITIONS": "0",
    }
    assert len(problems(environ)) == 3


@pytest.mark.parametrize(
    "origins",
    [
        "https://www.example.com,http://localhost:*",
        "https://www.example.com/, HTTPS://Example.com:8443",
        "*",
        "null",
        "http://[::1]:*,http://127.0.0.1:3000",
        "capacitor://localhost,tauri://localhost",
        "https://xn--caf-dma.example.com",
    ],
)
def test_origins_as_browsers_send_them_are_accepted(origins: str) -> None:
    assert load_settings(environ={"NEXUS_GATEWAY_ALLOWED_ORIGINS": origins}).gateway_allowed_origins


@pytest.mark.parametrize(
    "origins",
    [
        "www.example.com",
        "https://www.example.com/chat",
        "https://*.example.com",
        "https://*",
        "localhost:3000",
        "http://localhost:30*",
        "https://user@example.com",
        "https://www.example.com https://example.com",
    ],
)
def test_an_origin_that_no_browser_sends_is_refused_at_the_start(origins: str) -> None:
    (line,) = problems({"NEXUS_GATEWAY_ALLOWED_ORIGINS": f"https://example.com,{origins}"})
    assert line.startswith("  - NEXUS_GATEWAY_ALLOWED_ORIGINS: ")
