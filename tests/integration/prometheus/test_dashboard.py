"""Every query of the dashboard and of the rules, asked of a real Prometheus that scrapes the real product."""

from __future__ import annotations

import itertools
import json
import math
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

if TYPE_CHECKING:
    from tests.integration.prometheus.conftest import Observed
    from tests.support.prometheus import Prometheus

ROOT = Path(__file__).resolve().parents[3]
BOARD: dict[str, Any] = json.loads((ROOT / "deploy" / "grafana" / "nexus-stream.json").read_text(encoding="utf-8"))
RULES: list[dict[str, Any]] = [
    rule
    for path in sorted((ROOT / "deploy" / "prometheus").glob("*.rules.yml"))
    for group in yaml.safe_load(path.read_text(encoding="utf-8"))["groups"]
    for rule in group["rules"]
]
PANELS = [panel for panel in BOARD["panels"] if panel["type"] != "row"]
# What Grafana puts in.
VARIABLES = {
    "$__rate_interval": "1m",
    "$__interval": "1m",
    "$__range": "15m",
    "$instance": ".*",
}
METRIC = re.compile(r"\b(?:[a-z_]+:)?(?:nexus|process)_[a-z_]+(?::[a-z0-9_]+)?")
SELECTOR = re.compile(rf"({METRIC.pattern})(\{{[^}}]*\}})?")
DATA_SECONDS = 90.0

# Queries of the dashboard that answer nothing while all is well, and why.
EMPTY_QUERIES = {
    'ALERTS{alertname=~"Nexus.+", alertstate="firing"}': "nothing fires",
    "nexus_alert_firing == 1": "nothing fires",
    'changes(process_start_time_seconds{job=~"nexus-.+"}[$__interval]) > 0': "nothing was restarted",
}
# Series that rules look at and that are not there while all is well, and why.
EMPTY_SELECTORS = {
    'status:nexus_gateway_posts:increase5m{status=~"5.."}': "the gateway failed no post",
    'nexus_alert_firing{alert="view_lost"}': "an alert has a series only while it fires",
}
# Metrics of either that have no series yet, and why.
EMPTY_METRICS = {
    "nexus_sink_retries_total": "a class of SQLSTATE gets its series with its first retry",
    "nexus_waiting_since_seconds": "a series begins with the first wait for that thing",
}
# What must not fire on a healthy product, however slow the machine.
NEVER_IN_GOOD_TIMES = {
    "NexusSilent",
    "NexusNoProgress",
    "NexusPersistence",
    "NexusBudget",
    "NexusOldMessages",
    "NexusViewLost",
    "NexusWebhookFailing",
}


def filled(query: str) -> str:
    """With Grafana's variables as Grafana fills them in."""
    for name, value in VARIABLES.items():
        query = query.replace(name, value)
    return query


def metrics_in(expression: str) -> set[str]:
    return set(METRIC.findall(expression))


BOARD_QUERIES = [(panel["title"], target["expr"]) for panel in PANELS for target in panel["targets"]] + [
    (entry["name"], entry["expr"]) for entry in BOARD["annotations"]["list"] if "expr" in entry
]
RULE_SELECTORS = sorted({name + (labels or "") for rule in RULES for name, labels in SELECTOR.findall(rule["expr"])})
RECORDED = [rule["record"] for rule in RULES if "record" in rule]


def is_excused(query: str) -> bool:
    return query in EMPTY_QUERIES or query in EMPTY_SELECTORS or bool(metrics_in(query) & EMPTY_METRICS.keys())


def numbers(prometheus: Prometheus, query: str) -> list[float]:
    return [float(sample["value"][1]) for sample in prometheus.query(query)]


def answers(prometheus: Prometheus, query: str) -> bool:
    return any(not math.isnan(number) for number in numbers(prometheus, filled(query)))


def wait_for(what: str, prometheus: Prometheus, query: str, seconds: float = DATA_SECONDS) -> None:
    deadline = time.monotonic() + seconds
    while not answers(prometheus, query):
        assert time.monotonic() < deadline, f"{what}: no data for {query}"
        time.sleep(0.5)


@pytest.mark.parametrize(
    ("title", "query"), BOARD_QUERIES, ids=[f"{number}-{title}" for number, (title, _) in enumerate(BOARD_QUERIES)]
)
def test_a_query_of_the_dashboard_answers(title: str, query: str, observed: Observed):
    assert "$" not in filled(query)
    observed.prometheus.query(filled(query))
    if not is_excused(query):
        wait_for(title, observed.prometheus, query)


@pytest.mark.parametrize("record", RECORDED)
def test_a_recording_rule_records(record: str, observed: Observed):
    wait_for("recording rule", observed.prometheus, record)


@pytest.mark.parametrize("selector", RULE_SELECTORS)
def test_what_a_rule_looks_at_is_there(selector: str, observed: Observed):
    observed.prometheus.query(selector)
    if not is_excused(selector):
        wait_for("rules", observed.prometheus, selector)


def test_rules_are_evaluated_without_an_error_and_a_healthy_product_fires_nothing_grave(observed: Observed):
    wait_for("traffic", observed.prometheus, "sum(stage_outcome:nexus_records:increase5m) > 20")
    rules = observed.prometheus.rules()
    assert len(rules) == len(RULES)
    assert [(rule["name"], rule.get("lastError")) for rule in rules if rule["health"] != "ok"] == []
    firing = {rule["name"] for rule in rules if rule.get("state") == "firing"}
    assert firing & NEVER_IN_GOOD_TIMES == set()


def test_what_is_excused_exists():
    """Else the excuse outlives the query."""
    queries = {query for _, query in BOARD_QUERIES}
    assert EMPTY_QUERIES.keys() <= queries
    assert EMPTY_SELECTORS.keys() <= set(RULE_SELECTORS)
    used = {metric for query in (*queries, *RULE_SELECTORS) for metric in metrics_in(query)}
    assert EMPTY_METRICS.keys() <= used


def test_every_metric_that_is_used_is_in_the_reference():
    reference = (ROOT / "docs" / "reference" / "metrics.md").read_text(encoding="utf-8")
    expressions = [query for _, query in BOARD_QUERIES] + [rule["expr"] for rule in RULES]
    used = {metric for expression in expressions for metric in metrics_in(expression) if metric.startswith("nexus_")}
    plain = {re.sub(r"_bucket$", "", metric) for metric in used}
    assert {metric for metric in plain if f"`{metric}`" not in reference} == set()


def blocks(language: str) -> list[str]:
    """What the pages for operators tell to ask."""
    pages = [ROOT / "docs" / "howto" / name for name in ("runbook.md", "troubleshooting.md")]
    fence = re.compile(rf"^```{language}\n(.*?)^```$", re.MULTILINE | re.DOTALL)
    return [block for page in pages for block in fence.findall(page.read_text(encoding="utf-8"))]


def test_the_queries_of_the_runbook_are_understood(observed: Observed):
    expressions = blocks("promql")
    assert len(expressions) > 15
    for expression in expressions:
        observed.prometheus.query(expression)
    reference = (ROOT / "docs" / "reference" / "metrics.md").read_text(encoding="utf-8")
    used = {metric for expression in expressions for metric in metrics_in(expression) if metric.startswith("nexus_")}
    assert {metric for metric in used if f"`{metric.removesuffix('_bucket')}`" not in reference} == set()


async def test_the_sql_of_the_runbook_runs(observed: Observed):
    statements = blocks("sql")
    assert len(statements) >= 2
    for statement in statements:
        await observed.stack.fetch(statement)


def test_panels_have_ids_of_their_own_say_what_they_show_and_do_not_overlap():
    ids = [panel["id"] for panel in BOARD["panels"]]
    assert len(ids) == len(set(ids))
    assert [panel["title"] for panel in PANELS if not panel["title"] or not panel["datasource"]] == []
    assert {panel["datasource"]["uid"] for panel in PANELS} == {"${datasource}"}
    taken: dict[tuple[int, int], str] = {}
    for panel in BOARD["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24, panel["title"]
        for cell in itertools.product(
            range(place["x"], place["x"] + place["w"]), range(place["y"], place["y"] + place["h"])
        ):
            assert cell not in taken, f"{panel['title']} lies over {taken[cell]}"
            taken[cell] = panel["title"]


@pytest.mark.timeout(420)
def test_a_dead_enricher_is_seen_though_nobody_reports_its_lag(observed: Observed):
    """`kill -9` of the only one, under traffic: the console's figures carry the alerts, which clear when it is back."""
    prometheus, enricher = observed.prometheus, observed.stack.processes["enricher"]
    port = enricher.url.rpartition(":")[2]
    enricher.kill()
    wait_for("its series end", prometheus, "absent(nexus_partition_lag_records{stage='enricher'})")
    late = "sum(stage_topic_partition:nexus_late_records:max{stage='enricher'}) > 20"
    wait_for("the broker's lag", prometheus, late)
    wait_for("NexusSilent", prometheus, "ALERTS{alertname='NexusSilent', job='nexus-enricher', alertstate='firing'}")
    wait_for("NexusNoProgress", prometheus, "ALERTS{alertname='NexusNoProgress', stage='enricher'}", 150)
    again = observed.stack.start("enricher", NEXUS_WEB_PORT=port)
    # Prometheus knows the former port.
    again.url = enricher.url
    again.wait_until_ready(90)
    wait_for("cleared", prometheus, "absent(ALERTS{alertname=~'NexusSilent|NexusNoProgress', alertstate='firing'})", 90)
    wait_for("caught up", prometheus, "sum(stage_topic_partition:nexus_late_records:max{stage='enricher'}) < 20")
