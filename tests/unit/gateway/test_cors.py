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
    preflight = policy.headers(origin, preflight=True, requested="content-type")
    assert preflight == {"Vary": "Origin, Access-Control-Request-Headers"}


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


def allowed(requested: str, *origins: str) -> set[str]:
    policy = CorsPolicy(origins or ("https://www.example.com",))
    headers = policy.headers("https://www.example.com", preflight=True, requested=requested)
    assert "POST" in headers["Access-Control-Allow-Methods"]
    assert int(headers["Access-Control-Max-Age"]) > 0
    # Two pages ask for different headers: a cache must not mix the answers.
    assert "Access-Control-Request-Headers" in headers["Vary"]
    return set(headers["Access-Control-Allow-Headers"].split(", "))


@pytest.mark.parametrize("origins", [("https://www.example.com",), ("*",)], ids=["named", "any"])
@pytest.mark.parametrize(
    "requested",
    [
        "baggage,content-type,sentry-trace",
        "content-type,traceparent,tracestate",
        "x-posthog-distinct-id,x-posthog-session-id,x-posthog-window-id",
        "authorization,x-requested-with,x-datadog-trace-id,newrelic,b3",
        " Content-Type , X-Anything_Else.1 ",
    ],
)
def test_what_scripts_add_to_every_request_is_allowed(origins: tuple[str, ...], requested: str) -> None:
    assert {name.strip().lower() for name in requested.split(",")} <= allowed(requested, *origins)


@pytest.mark.parametrize("origins", [("https://www.example.com",), ("*",)], ids=["named", "any"])
@pytest.mark.parametrize("name", ["x-tenant-id", "X-Tenant-Id", "x-nexus-server-key", "x-nexus-visitor-address"])
def test_headers_for_servers_are_never_allowed(origins: tuple[str, ...], name: str) -> None:
    assert allowed(f"content-type,{name},traceparent", *origins) == {"content-type", "traceparent"}


def test_a_header_named_with_an_asterisk_does_not_allow_every_header() -> None:
    assert allowed("*,content-type") == {"content-type"}
    assert allowed("*") == {"content-type"}


@pytest.mark.parametrize(
    "requested",
    [
        "x-a\r\nset-cookie: a=b",
        "x a",
        "x-a;q=1",
        '"x-a"',
        "x-\xf1",
        "x" * 129,
        ",,,",
        "",
    ],
)
def test_what_is_no_header_name_is_not_repeated(requested: str) -> None:
    assert allowed(requested) == {"content-type"}


def test_the_answer_to_many_names_is_bounded() -> None:
    assert len(allowed(",".join(f"x-{number}" for number in range(10_000)))) <= 65


@pytest.mark.parametrize("origin", ["http://localhost", "http://localhost:3000", "http://LOCALHOST:5173"])
def test_a_pattern_allows_every_port(origin: str) -> None:
    assert CorsPolicy(("http://localhost:*",)).headers(origin)[_ALLOW] == origin


@pytest.mark.parametrize(
    "origin",
    [
        "https://localhost:3000",
        "http://localhost.example.com:3000",
        "http://localhost:3000.example.com",
        "http://localhost:",
        "http://localhost:*",
        "http://localhost:3000:3000",
        "http://localhost:300000",
        "http://localhost:3000/",
        "http://a.localhost:3000",
    ],
)
def test_a_pattern_allows_nothing_else(origin: str) -> None:
    assert _ALLOW not in CorsPolicy(("http://localhost:*",)).headers(origin)


def test_a_pattern_of_an_address() -> None:
    policy = CorsPolicy(("http://127.0.0.1:*", "http://[::1]:*"))
    assert _ALLOW in policy.headers("http://127.0.0.1:3000")
    assert _ALLOW in policy.headers("http://[::1]:3000")
    assert _ALLOW not in policy.headers("http://[::2]:3000")
