"""Which origins may read the answers."""

import pytest

from nexus_stream.gateway.cors import CorsPolicy

_ALLOW = "Access-Control-Allow-Origin"
_CREDENTIALS = "Access-Control-Allow-Credentials"


def test_a_listed_origin_is_echoed_with_credentials() -> None:
    headers = CorsPolicy(("https://www.example.com",)).headers("https://www.example.com")
    assert headers[_ALLOW] == "https://www.example.com"
    assert headers[_CREDENTIALS] == "true"
    assert headers["Vary"] == "Origin"
    assert "X-Message-Id" in headers["Access-Control-Expose-Headers"]


@pytest.mark.parametrize(
    "origin",
    [
        None,
        "null",
        "https://example.com",
        "http://www.example.com",
        "https://www.example.com:8443",
        "https://www.example.com.evil.example",
        "https://evil.example/https://www.example.com",
    ],
)
def test_any_other_origin_gets_only_vary(origin: str | None) -> None:
    policy = CorsPolicy(("https://www.example.com", "null"))
    assert policy.headers(origin) == {"Vary": "Origin"}
    assert policy.headers(origin, preflight=True) == {"Vary": "Origin"}


def test_an_empty_list_allows_no_origin() -> None:
    assert CorsPolicy(()).headers("https://www.example.com") == {"Vary": "Origin"}


def test_the_wildcard_never_comes_with_credentials() -> None:
    policy = CorsPolicy(("*", "https://www.example.com"))
    other = policy.headers("https://other.example", preflight=True)
    assert other[_ALLOW] == "*"
    assert _CREDENTIALS not in other
    assert policy.headers("https://www.example.com")[_ALLOW] == "https://www.example.com"


@pytest.mark.parametrize(
    "setting", ["https://WWW.Example.com", "https://www.example.com/", " https://www.example.com "]
)
def test_spelling_in_the_setting_does_not_matter(setting: str) -> None:
    assert _ALLOW in CorsPolicy((setting,)).headers("https://www.example.com")


def test_a_preflight_names_methods_and_headers() -> None:
    headers = CorsPolicy(("https://www.example.com",)).headers("https://www.example.com", preflight=True)
    assert "POST" in headers["Access-Control-Allow-Methods"]
    assert {"content-type", "x-tenant-id"} <= set(headers["Access-Control-Allow-Headers"].split(", "))
    assert int(headers["Access-Control-Max-Age"]) > 0
