"""`nexus healthcheck`: the process it checks, the address, and the exit code."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from click.testing import CliRunner

from nexus_stream.errors import ConfigurationError
from nexus_stream.observability.healthcheck_command import address_of, command, process_type_of
from nexus_stream.settings import load_settings


@pytest.mark.parametrize(
    ("argv", "process_type"),
    [
        (["/opt/nexus/bin/python", "/opt/nexus/bin/nexus", "gateway"], "gateway"),
        (["/sbin/docker-init", "--", "nexus", "console"], "console"),
        (["python3.11", "/opt/nexus/bin/faust", "-A", "nexus_stream.enricher", "worker"], "enricher"),
        (["/bin/sh", "-c", "exec faust -A nexus_stream.sink worker"], "sink"),
        (["nexus", "migrate"], None),
        (["faust", "-A", "another.app", "worker"], None),
        (["faust", "-A", "nexus_stream.other", "worker"], None),
        ([], None),
    ],
)
def test_the_type_is_found_from_process_1(argv: list[str], process_type: str | None) -> None:
    assert process_type_of(argv) == process_type


@pytest.mark.parametrize(
    ("process_type", "variables", "address"),
    [
        ("gateway", {"PORT": "81", "NEXUS_GATEWAY_HOST": "0.0.0.0"}, "http://127.0.0.1:81"),
        ("gateway", {"NEXUS_GATEWAY_HOST": "::", "NEXUS_GATEWAY_PORT": "82", "PORT": "81"}, "http://[::1]:82"),
        ("console", {"NEXUS_CONSOLE_PORT": "83"}, "http://127.0.0.1:83"),
        ("enricher", {"NEXUS_WEB_PORT": "84", "NEXUS_WEB_HOST": "10.0.0.7", "PORT": "81"}, "http://10.0.0.7:84"),
        ("sink", {"NEXUS_WEB_PORT": "85", "NEXUS_WEB_HOST": "worker.example.com"}, "http://worker.example.com:85"),
    ],
)
def test_the_address_is_where_that_process_listens(process_type, variables, address) -> None:
    assert address_of(process_type, load_settings(environ=variables)) == address


def test_port_0_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="NEXUS_WEB_PORT"):
        address_of("enricher", load_settings(environ={}))


class _Answers(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/live" else 503)
        self.end_headers()
        self.wfile.write(f"answer of {self.path}".encode())

    def log_message(self, *arguments: object) -> None:
        """Say nothing."""


@pytest.fixture
def port() -> Iterator[int]:
    server = HTTPServer(("127.0.0.1", 0), _Answers)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server.server_port
    server.shutdown()
    thread.join()
    server.server_close()


def test_the_exit_code_follows_the_answer(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PORT", str(port))
    # The command calls this machine directly, without a proxy.
    monkeypatch.setenv("http_proxy", "http://proxy.example.com:3128")
    live = CliRunner().invoke(command, ["gateway", "--live"])
    assert (live.exit_code, live.output) == (0, "answer of /live\n")
    ready = CliRunner().invoke(command, ["gateway"])
    assert (ready.exit_code, ready.output) == (1, "answer of /ready\n")
    # In the console's process PORT is the console's.
    assert CliRunner().invoke(command, ["console", "--live"]).exit_code == 0


def test_no_answer_is_1_and_says_so(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEXUS_WEB_PORT", "1")
    answer = CliRunner().invoke(command, ["sink"])
    assert answer.exit_code == 1
    assert answer.output.startswith("sink: no answer")


def test_another_process_1_needs_a_named_type() -> None:
    answer = CliRunner().invoke(command, [])
    assert isinstance(answer.exception, ConfigurationError)
