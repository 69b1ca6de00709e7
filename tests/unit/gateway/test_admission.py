"""Keys, tenants and rates: who may name what."""

from __future__ import annotations

import subprocess
from typing import Any
from unittest.mock import Mock

import pytest
from aiohttp.test_utils import make_mocked_request
from click.testing import CliRunner

from nexus_stream.cli import _nexus
from nexus_stream.gateway.admission import Admission, Admitted
from nexus_stream.gateway.client_address import address_bucket
from nexus_stream.gateway.refusal import RequestRefusedError
from nexus_stream.gateway.server_keys import ServerKeys, key_hash, new_key
from nexus_stream.settings import load_settings

KEY, NEXT = new_key(), new_key()
KEYS = f"web:sha256:{key_hash(KEY)},web-next:sha256:{key_hash(NEXT)}"


def admission(keys: str = "", **variables: str) -> Admission:
    environ = {"NEXUS_GATEWAY_SERVER_KEYS": keys, "NEXUS_GATEWAY_REQUESTS_PER_MINUTE": "3", **variables}
    return Admission(load_settings("gateway", environ))


def admit(door: Admission, peer: str = "203.0.113.1", **headers: str) -> Admitted:
    transport = Mock()
    transport.get_extra_info = lambda name, default=None: (peer, 1) if name == "peername" else default
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    return door.admit(make_mocked_request("POST", "/api/nexus/producer", headers=sent, transport=transport))


def refused(door: Admission, **options: Any) -> tuple[int, str]:
    with pytest.raises(RequestRefusedError) as caught:
        admit(door, **options)
    return caught.value.status, caught.value.code


def test_without_keys_a_server_names_its_tenant_as_always() -> None:
    assert admit(admission(), x_tenant_id="acme") == Admitted("acme", None)
    # The fetch of Node.js 20 sends this one by itself.
    assert admit(admission(), x_tenant_id="acme", Sec_Fetch_Mode="cors") == Admitted("acme", None)


def test_without_keys_the_keys_header_is_ignored() -> None:
    door = admission()
    assert admit(door, x_tenant_id="acme", x_nexus_server_key="anything") == Admitted("acme", None)
    assert admit(door, x_nexus_server_key="anything", x_nexus_visitor_address="203.0.113.9") == Admitted(None, None)
    admit(door)
    assert refused(door, x_nexus_server_key="anything", x_nexus_visitor_address="203.0.113.9") == (
        429,
        "too_many_requests",
    )


@pytest.mark.parametrize(
    "browser", [{"Origin": "https://www.example.com"}, {"Origin": "null"}, {"Sec_Fetch_Site": "same-origin"}]
)
def test_a_browser_cannot_name_a_tenant(browser: dict[str, str]) -> None:
    for keys in ("", KEYS):
        assert refused(admission(keys), x_tenant_id="acme", **browser) == (403, "tenant_needs_key")
        for blank in ("", "  "):
            assert admit(admission(keys), x_tenant_id=blank, **browser).key_name is None
        assert admit(admission(keys), **browser) == Admitted(None, None)


def test_with_keys_only_a_key_names_a_tenant() -> None:
    door = admission(KEYS)
    assert refused(door, x_tenant_id="acme") == (403, "tenant_needs_key")
    assert admit(door, x_tenant_id="acme", x_nexus_server_key=KEY) == Admitted("acme", "web")
    assert admit(door, x_tenant_id="acme", x_nexus_server_key=NEXT) == Admitted("acme", "web-next")
    # A route handler that passes on every header of the browser.
    assert admit(door, x_tenant_id="acme", x_nexus_server_key=KEY, Origin="https://www.example.com").tenant_id == "acme"


@pytest.mark.parametrize(
    "wrong",
    ["", " ", "undefined", KEY[:-1], KEY + "x", KEY.upper(), key_hash(KEY), "ñ"],
    # The key is made anew in each process, so it can be no test's name.
    ids=["empty", "blank", "undefined", "shorter", "longer", "upper case", "its hash", "no ASCII"],
)
def test_a_wrong_key_is_refused_also_without_a_tenant(wrong: str) -> None:
    assert refused(admission(KEYS), x_nexus_server_key=wrong) == (401, "server_key_wrong")


def test_guessing_keys_is_limited() -> None:
    door = admission(KEYS)
    answers = [refused(door, x_nexus_server_key=f"guess-{number}") for number in range(5)]
    assert answers == [(401, "server_key_wrong")] * 3 + [(429, "too_many_requests")] * 2
    # The site's own server on the same address is not.
    assert admit(door, x_nexus_server_key=KEY).key_name == "web"


def test_the_sites_server_is_not_limited_as_one_visitor() -> None:
    door = admission(KEYS)
    for _ in range(500):
        admit(door, x_nexus_server_key=KEY)
    for number in range(200):
        admit(door, x_nexus_server_key=KEY, x_nexus_visitor_address=f"198.51.100.{number}")


def test_a_visitor_that_the_server_names_is_limited_alone() -> None:
    door = admission(KEYS)
    named = {"x_nexus_server_key": KEY, "x_nexus_visitor_address": "198.51.100.7, 10.0.0.1"}
    for _ in range(3):
        admit(door, **named)
    assert refused(door, **named) == (429, "too_many_requests")
    assert admit(door, x_nexus_server_key=KEY, x_nexus_visitor_address="198.51.100.8").key_name == "web"


def test_without_a_key_nobody_names_a_visitor() -> None:
    door = admission(KEYS)
    for number in range(3):
        admit(door, x_nexus_visitor_address=f"198.51.100.{number}")
    assert refused(door, x_nexus_visitor_address="198.51.100.99") == (429, "too_many_requests")


@pytest.mark.parametrize("text", ["", "unknown", "undefined", "a.example.com", "1.2.3", ",203.0.113.1"])
def test_what_is_no_address_limits_nobody(text: str) -> None:
    assert address_bucket(text) is None


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("203.0.113.1", "203.0.113.1:4711"),
        ("203.0.113.1, 10.0.0.1", " 203.0.113.1 "),
        ("::ffff:203.0.113.1", "203.0.113.1"),
        ("2001:db8::1", "[2001:db8::2]:443"),
    ],
)
def test_an_address_counts_as_the_same_in_every_form(text: str, same: str) -> None:
    assert address_bucket(text) == address_bucket(same) is not None


def test_keys_are_long_random_and_never_stored() -> None:
    assert KEY.startswith("nxk_")
    assert len(KEY) >= 40
    assert new_key() != new_key()
    assert KEY not in repr(ServerKeys({"web": key_hash(KEY)}).__dict__)


def test_a_hash_is_plain_sha256() -> None:
    made = subprocess.run(["sha256sum"], input=KEY.encode(), capture_output=True, check=True).stdout.decode()
    assert made.split()[0] == key_hash(KEY)


def test_the_command_makes_a_key_that_its_line_accepts() -> None:
    result = CliRunner().invoke(_nexus, ["gateway", "key", "web"])
    assert result.exit_code == 0, result.output
    key, line = [text.strip() for text in result.output.splitlines() if text.startswith("  ")]
    assert admit(admission(line), x_tenant_id="acme", x_nexus_server_key=key) == Admitted("acme", "web")


def test_the_command_refuses_a_name_that_no_setting_may_have() -> None:
    result = CliRunner().invoke(_nexus, ["gateway", "key", "a:b"])
    assert result.exit_code != 0
    assert "nxk_" not in result.output
