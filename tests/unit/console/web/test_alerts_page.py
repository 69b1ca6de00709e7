"""docs/reference/alerts.md agrees with the code."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from standardwebhooks import Webhook as Signer

from nexus_stream.console.alerts.conditions import AlertKind
from nexus_stream.errors import ConfigurationError
from nexus_stream.settings import Settings, load_settings

ROOT = Path(__file__).parents[4]
PAGE = (ROOT / "docs" / "reference" / "alerts.md").read_text()
SECRET = "whsec_" + "QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVo="


@pytest.mark.parametrize("kind", AlertKind)
def test_every_alert_has_its_condition_its_times_and_a_drill(kind: AlertKind) -> None:
    conditions, rest = PAGE.split("## Begin and end")
    times, rest = rest.split("## The gateway refuses")
    assert len(re.findall(rf"^\| `{kind}` \|", conditions, re.MULTILINE)) == 1
    assert f"`{kind}`" in times
    drill = rest.split("## Fault drill")[1]
    assert re.search(rf"^\| `{kind}` \| .* \| [\d.]+ \| .* \| [\d.]+ \|$", drill, re.MULTILINE)


def test_every_alert_has_a_runbook_where_its_link_leads() -> None:
    path, _, anchor = Settings().alert_runbook_url.partition("#")
    assert anchor == ""
    headings = re.findall(r"^## (\w+)$", (ROOT / path).read_text(), re.MULTILINE)
    assert {kind.value for kind in AlertKind} <= set(headings)


def test_every_setting_is_named_with_its_default() -> None:
    for name in Settings.model_fields:
        if name.startswith("alert_"):
            assert f"NEXUS_{name.upper()}" in PAGE
    settings = Settings()
    for name in ("for", "clear", "window", "no_progress", "waiting", "latency"):
        assert f"`NEXUS_ALERT_{name.upper()}_SECONDS`, {getattr(settings, f'alert_{name}_seconds'):g}" in PAGE


def test_the_pages_program_verifies_what_we_sign() -> None:
    (program,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    names: dict[str, Callable[..., bool]] = {}
    exec(program, names)  # noqa: S102 - the page's own example
    body = b'{"alert": "lag"}'

    def signed(at: datetime) -> dict[str, str]:
        return {
            "webhook-id": "msg_1",
            "webhook-timestamp": str(int(at.timestamp())),
            "webhook-signature": Signer(SECRET).sign("msg_1", at, body.decode()),
        }

    now = datetime.now(UTC)
    assert names["is_ours"](signed(now), body, SECRET)
    assert not names["is_ours"](signed(now), body + b" ", SECRET)
    assert not names["is_ours"](signed(now) | {"webhook-id": "msg_2"}, body, SECRET)
    assert not names["is_ours"](signed(now - timedelta(minutes=10)), body, SECRET)


@pytest.mark.parametrize(
    ("environ", "problem"),
    [
        ({"NEXUS_ALERT_WEBHOOK_URL": "https://hooks.example.com/x"}, "set both or neither"),
        ({"NEXUS_ALERT_WEBHOOK_SECRET": SECRET}, "set both or neither"),
        ({"NEXUS_ALERT_WEBHOOK_URL": "ftp://x", "NEXUS_ALERT_WEBHOOK_SECRET": SECRET}, "NEXUS_ALERT_WEBHOOK_URL"),
        ({"NEXUS_ALERT_WEBHOOK_URL": "https://[x", "NEXUS_ALERT_WEBHOOK_SECRET": SECRET}, "NEXUS_ALERT_WEBHOOK_URL"),
        ({"NEXUS_ALERT_WEBHOOK_URL": "https://x", "NEXUS_ALERT_WEBHOOK_SECRET": "whsec_c2hvcnQ="}, "openssl"),
        ({"NEXUS_ALERT_WEBHOOK_URL": "https://x", "NEXUS_ALERT_WEBHOOK_SECRET": SECRET[6:]}, "openssl"),
        ({"NEXUS_ALERT_WEBHOOK_URL": "https://x", "NEXUS_ALERT_WEBHOOK_SECRET": "whsec_!!"}, "openssl"),
    ],
)
def test_a_webhook_without_address_or_secret_stops_the_start(environ: dict[str, str], problem: str) -> None:
    with pytest.raises(ConfigurationError, match=problem) as raised:
        load_settings("console", environ=environ)
    assert SECRET not in str(raised.value)
    assert "hooks.example.com" not in str(raised.value)


def test_a_complete_webhook_is_accepted() -> None:
    environ = {"NEXUS_ALERT_WEBHOOK_URL": "https://hooks.example.com/x?t=1", "NEXUS_ALERT_WEBHOOK_SECRET": SECRET}
    settings = load_settings("console", environ=environ)
    assert "hooks" not in repr(settings)
