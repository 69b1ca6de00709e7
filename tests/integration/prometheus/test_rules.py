"""The rules are valid, do what their unit tests say, and those tests notice when they do not."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from nexus_stream.console.alerts.conditions import AlertKind
from nexus_stream.settings import Settings
from tests.support.prometheus import promtool

PROMETHEUS = Path(__file__).resolve().parents[3] / "deploy" / "prometheus"
TESTS = sorted((PROMETHEUS / "tests").glob("*.yaml"))
RULES = [
    rule
    for path in sorted(PROMETHEUS.glob("*.rules.yml"))
    for group in yaml.safe_load(path.read_text(encoding="utf-8"))["groups"]
    for rule in group["rules"]
]
ALERTS = [rule for rule in RULES if "alert" in rule]
# Of the console's own webhook: the console cannot well be asked to report that.
ONLY_IN_PROMETHEUS = {"NexusWebhookFailing"}


def names(kinds: type[AlertKind]) -> set[str]:
    return {"Nexus" + "".join(word.capitalize() for word in kind.value.split("_")) for kind in kinds}


def expressions_of(alert: str) -> str:
    return "\n".join(rule["expr"] for rule in ALERTS if rule["alert"] == alert)


@pytest.mark.usefixtures("prometheus_installed")
def test_the_configuration_and_the_rules_are_valid():
    code, said = promtool("check", "config", PROMETHEUS / "prometheus.yml")
    assert code == 0, said
    assert "FAILED" not in said
    assert f"SUCCESS: {len(ALERTS)} rules found" in said
    code, said = promtool("check", "rules", "--lint=all", "--lint-fatal", *sorted(PROMETHEUS.glob("*.rules.yml")))
    assert code == 0, said


@pytest.mark.usefixtures("prometheus_installed")
@pytest.mark.parametrize("path", TESTS, ids=[path.stem for path in TESTS])
def test_the_rules_pass_their_unit_tests(path: Path):
    code, said = promtool("test", "rules", path)
    assert code == 0, said


@pytest.mark.usefixtures("prometheus_installed")
@pytest.mark.parametrize("rewritten", ["vector(0) > 1", "vector(1)"], ids=["never fires", "always fires"])
@pytest.mark.parametrize("number", range(len(ALERTS)), ids=[f"{n}-{rule['alert']}" for n, rule in enumerate(ALERTS)])
def test_an_alert_that_is_wrong_is_noticed(number: int, rewritten: str, tmp_path: Path):
    """Each alert has a test in which it fires, and one in which it does not."""
    folder = tmp_path / "prometheus"
    shutil.copytree(PROMETHEUS, folder)
    path = folder / "alerts.rules.yml"
    rules: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    rules["groups"][0]["rules"][number]["expr"] = rewritten
    path.write_text(yaml.safe_dump(rules), encoding="utf-8")
    alert = ALERTS[number]["alert"]
    of_this_alert = [path for path in sorted((folder / "tests").glob("*.yaml")) if alert in path.read_text("utf-8")]
    code, said = promtool("test", "rules", *of_this_alert)
    assert code != 0, said
    assert alert in said


def test_there_is_an_alert_for_each_kind_the_console_knows():
    assert {rule["alert"] for rule in ALERTS} == names(AlertKind) | ONLY_IN_PROMETHEUS


@pytest.mark.parametrize("rule", ALERTS, ids=lambda rule: rule["alert"])
def test_an_alert_says_how_bad_what_and_where_to_read_on(rule: dict[str, Any]):
    assert rule["labels"]["severity"] in {"warning", "critical"}
    assert rule["annotations"].keys() == {"summary", "description", "runbook_url"}
    page, _, anchor = rule["annotations"]["runbook_url"].partition("#")
    runbook = (PROMETHEUS.parents[1] / page).read_text(encoding="utf-8")
    # The console's own messages lead to the same headings.
    assert page + "#" == Settings().alert_runbook_url
    assert anchor == re.sub(r"(?<!^)([A-Z])", r"_\1", rule["alert"].removeprefix("Nexus")).lower()
    section = re.search(rf"^## {anchor}\n(.*?)(?=^## |\Z)", runbook, re.MULTILINE | re.DOTALL)
    assert section is not None
    assert rule["alert"] in section[1]


def test_thresholds_are_those_of_the_settings():
    settings = Settings()
    halves = (settings.ingestion_retention_hours // 2, settings.enriched_retention_hours // 2)
    assert expressions_of("NexusLag").endswith(f"> {settings.alert_lag_records}")
    assert expressions_of("NexusErrorRate").endswith(f"> {settings.alert_error_rate:g}")
    assert expressions_of("NexusLatency").rstrip().endswith(f"> {settings.alert_latency_seconds:g}")
    assert tuple(map(int, re.findall(r"> (\d+) \* 3600", expressions_of("NexusOldMessages")))) == halves
    waiting = [rule["for"] for rule in ALERTS if rule["alert"] == "NexusWaiting" and "for" in rule]
    assert waiting == [f"{settings.alert_waiting_seconds:g}s"]
