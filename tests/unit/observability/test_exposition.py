"""The metrics server: its pages, no server without a port, and the error for a taken port."""

from __future__ import annotations

import json
import socket

import aiohttp
import pytest
from prometheus_client import CollectorRegistry, Counter
from prometheus_client.parser import text_string_to_metric_families

from nexus_stream.errors import ConfigurationError
from nexus_stream.observability.exposition import exposition, serve_metrics
from nexus_stream.settings import load_settings


async def get(url: str, **headers: str) -> tuple[int, str, str]:
    async with aiohttp.ClientSession() as session, session.get(url, headers=headers) as response:
        return response.status, response.headers["Content-Type"], await response.text()


async def test_three_pages_on_a_separate_port():
    why: list[str | None] = ["the broker is away"]
    async with serve_metrics(load_settings(environ={"NEXUS_METRICS_PORT": "0"}), lambda: why[0]) as address:
        assert address is not None
        status, content_type, text = await get(f"{address}/metrics", Accept="text/plain;version=0.0.4")
        assert status == 200
        assert content_type.startswith("text/plain; version=0.0.4")
        assert "python_info" in {family.name for family in text_string_to_metric_families(text)}
        status, _, text = await get(f"{address}/ready")
        assert (status, json.loads(text)) == (503, {"ready": False, "reason": "the broker is away"})
        why[0] = None
        assert (await get(f"{address}/ready"))[0] == 200
        assert (await get(f"{address}/live"))[0] == 200
        assert (await get(f"{address}/"))[0] == 404
    with pytest.raises(aiohttp.ClientConnectorError):
        await get(f"{address}/live")


async def test_nothing_is_served_without_a_port():
    async with serve_metrics(load_settings(environ={})) as address:
        assert address is None


async def test_a_taken_port_names_its_variable():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigurationError, match=rf"NEXUS_METRICS_PORT: 127\.0\.0\.1:{port} is taken"):
            async with serve_metrics(load_settings(environ={"NEXUS_METRICS_PORT": str(port)})):
                raise AssertionError("it was served")


async def test_an_address_of_another_host_names_both_variables():
    settings = load_settings(environ={"NEXUS_METRICS_PORT": "0", "NEXUS_METRICS_HOST": "192.0.2.1"})
    with pytest.raises(ConfigurationError, match="NEXUS_METRICS_HOST, NEXUS_METRICS_PORT"):
        async with serve_metrics(settings):
            raise AssertionError("it was served")


def test_openmetrics_is_served_on_request():
    registry = CollectorRegistry()
    Counter("served", "Served", registry=registry).inc()
    body, content_type = exposition("application/openmetrics-text;version=1.0.0", registry)
    assert content_type.startswith("application/openmetrics-text")
    assert body.endswith(b"# EOF\n")
