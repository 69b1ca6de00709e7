from __future__ import annotations

import pytest

from nexus_stream.console.web.access import Access
from nexus_stream.errors import ConfigurationError
from nexus_stream.settings import Settings, load_settings


@pytest.mark.parametrize(
    ("environ", "port"),
    [
        ({}, 8090),
        ({"PORT": "5001"}, 5001),
        ({"PORT": "5001", "NEXUS_CONSOLE_PORT": "5002"}, 5002),
        ({"PORT": "", "NEXUS_CONSOLE_PORT": ""}, 8090),
        ({"NEXUS_GATEWAY_PORT": "5003"}, 8090),
        ({"NEXUS_GATEWAY_PORT": "5003", "PORT": "5001"}, 5001),
    ],
)
def test_port_is_the_consoles_in_its_own_process(environ: dict[str, str], port: int) -> None:
    assert load_settings("console", environ).console_port == port


def test_port_is_not_the_consoles_elsewhere() -> None:
    assert load_settings("gateway", {"PORT": "5001"}).console_port == 8090


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.1", "::1", "localhost", "LOCALHOST"])
def test_loopback_addresses_are_served(host: str) -> None:
    Access(Settings()).require_safe_host(host)


@pytest.mark.parametrize(
    "host", ["0.0.0.0", "::", "", "192.168.1.10", "10.0.0.1", "example.com", "localhost.example.com"]
)
def test_addresses_others_can_reach_need_a_token(host: str) -> None:
    with pytest.raises(ConfigurationError, match=r"NEXUS_CONSOLE_HOST.*NEXUS_CONSOLE_TOKEN"):
        Access(Settings()).require_safe_host(host)
    Access(Settings(console_token="a-token-of-an-operator")).require_safe_host(host)


@pytest.mark.parametrize(
    "environ",
    [
        {"NEXUS_CONSOLE_TOKEN": "short"},
        {"NEXUS_CONSOLE_VIEWER_TOKEN": "short"},
        {"NEXUS_CONSOLE_TOKEN": "0123456789abcdef", "NEXUS_CONSOLE_VIEWER_TOKEN": "0123456789abcdef"},
    ],
)
def test_weak_tokens_are_refused_without_being_shown(environ: dict[str, str]) -> None:
    with pytest.raises(ConfigurationError, match="NEXUS_CONSOLE_") as error:
        load_settings("console", environ)
    assert not any(token in str(error.value) for token in environ.values())
