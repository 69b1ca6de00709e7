"""Latency of the gateway's 202 at a constant rate of arrivals.

    python -m benchmarks.gateway [--rate 1000] [--seconds 15] [--rounds 3] [--broker kafka|embedded] [--json]

Open loop: requests arrive at fixed times, independent of the earlier ones. The latency of a request counts from its due
time, not from the time when the client sends it. So a stall shows in every request that it delays (no coordinated
omission). The client's own delay is reported separately: if it is large, the machine had no free core for the client,
and the result describes the machine. The client uses HTTP/1.1 with keep-alive in this process; the gateway has its own
process. Calibration: the same client, at the same rate, against a bare aiohttp handler that reads the body and answers
202. The rounds alternate, and the first is a warm-up.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter, deque
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psutil

from nexus_stream.embedded.broker import EmbeddedBroker
from nexus_stream.embedded.processes import spawn, stop_process
from nexus_stream.gateway.app import PRODUCER_PATH
from nexus_stream.host.free_ports import free_port
from nexus_stream.kafka.topics import apply_topics
from nexus_stream.worker.app import install_uvloop
from tests.kafka.launcher import KafkaCluster, available
from tests.stack import Stack

GOAL_P99_MS = 20.0
WARM_UP_SECONDS = 4.0
CONNECTIONS = 128
LATE_MS = 2.0
DRAIN_SECONDS = 20.0


def requests_of(count: int) -> list[bytes]:
    """Complete HTTP requests: a chat of six turns each, about 1.1 KB, every one a different session."""
    requests = []
    for number in range(count):
        turns = [
            {"role": "user" if turn % 2 == 0 else "assistant", "content": f"turno {turn} de {number} " + "x" * 130}
            for turn in range(6)
        ]
        body = json.dumps({"messages": turns, "sessionId": f"session-{number}", "fingerprint": f"fp-{number}"}).encode()
        head = f"POST {PRODUCER_PATH} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        requests.append(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
    return requests


class _Connection(asyncio.Protocol):
    """One kept-alive connection; one request at a time."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._received = b""
        self._due_at: float | None = None
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Store the transport."""
        self.transport = transport  # type: ignore[assignment]
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def send(self, request: bytes, due_at: float) -> None:
        """Send a request."""
        self._due_at = due_at
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        """Count the answer when it is complete."""
        self._received += data
        head, found, rest = self._received.partition(b"\r\n\r\n")
        if not found:
            return
        length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
        if len(rest) < length:
            return
        assert self._due_at is not None, "an answer without a request"
        due_at, self._due_at, self._received = self._due_at, None, b""
        self._client.answered(self, due_at, int(head[9:12]))

    def connection_lost(self, error: Exception | None) -> None:
        """Count an unanswered request as failed."""
        if self._due_at is not None:
            self._client.answered(None, self._due_at, 0)


class Client:
    """Sends at fixed times on a pool of connections."""

    def __init__(self, host: str, port: int, requests: list[bytes], rate: float) -> None:
        self._host, self._port = host, port
        self._requests = requests
        self._interval = 1 / rate
        self._free: deque[_Connection] = deque()
        self._waiting: deque[tuple[bytes, float]] = deque()
        self._in_flight = 0
        self._idle = asyncio.Event()
        self.latencies_ms: list[float] = []
        self.lateness_ms: list[float] = []
        self.statuses: Counter[int] = Counter()
        self.waited_for_connection = 0

    async def run(self) -> None:
        """Connect, send all requests at their due times, and wait for the answers."""
        loop = asyncio.get_running_loop()
        pool = [
            (await loop.create_connection(lambda: _Connection(self), self._host, self._port))[1]
            for _ in range(CONNECTIONS)
        ]
        self._free.extend(pool)
        started = time.perf_counter() + 0.05
        sent = 0
        while sent < len(self._requests):
            now = time.perf_counter()
            while sent < len(self._requests) and (due_at := started + sent * self._interval) <= now:
                self._begin(self._requests[sent], due_at, now)
                sent += 1
            await asyncio.sleep(max(0.0, started + sent * self._interval - time.perf_counter()))
        if self._in_flight or self._waiting:
            await asyncio.wait_for(self._idle.wait(), DRAIN_SECONDS)
        for connection in pool:
            connection.transport.close()

    def _begin(self, request: bytes, due_at: float, now: float) -> None:
        self.lateness_ms.append((now - due_at) * 1000)
        self._in_flight += 1
        self._idle.clear()
        if self._free:
            self._free.pop().send(request, due_at)
        else:
            self.waited_for_connection += 1
            self._waiting.append((request, due_at))

    def answered(self, connection: _Connection | None, due_at: float, status: int) -> None:
        """Count an answer, or (status 0) a missing answer."""
        self.latencies_ms.append((time.perf_counter() - due_at) * 1000)
        self.statuses[status] += 1
        self._in_flight -= 1
        if connection is not None:
            if self._waiting:
                connection.send(*self._waiting.popleft())
            else:
                self._free.append(connection)
        if not self._in_flight:
            self._idle.set()


def one_round(what: str, pid: int, port: int, rate: float, seconds: float) -> dict[str, Any]:
    """Send the load to one server; every answer must be a 202."""
    client = Client("127.0.0.1", port, requests_of(int(rate * seconds)), rate)
    server = psutil.Process(pid)
    before = server.cpu_times()
    # A pause of the client's garbage collector would count as latency of the server.
    gc.collect()
    gc.disable()
    try:
        asyncio.run(client.run())
    finally:
        gc.enable()
    after = server.cpu_times()
    assert set(client.statuses) == {202}, f"{what} answered {dict(client.statuses)}"
    ordered = sorted(client.latencies_ms)
    result = {
        "what": what,
        "requests": len(ordered),
        "p50_ms": ordered[len(ordered) // 2],
        "p99_ms": ordered[int(len(ordered) * 0.99)],
        "max_ms": ordered[-1],
        "late_share": sum(late > LATE_MS for late in client.lateness_ms) / len(ordered),
        "client_late_p99_ms": sorted(client.lateness_ms)[int(len(ordered) * 0.99)],
        "waited_for_connection": client.waited_for_connection,
        # The same on a busy and on an idle machine.
        "cpu_ms_a_request": 1000 * (after.user + after.system - before.user - before.system) / len(ordered),
    }
    print(
        f"{what}: p50 {result['p50_ms']:.1f} ms, p99 {result['p99_ms']:.1f} ms, max {result['max_ms']:.0f} ms, "
        f"{result['cpu_ms_a_request']:.2f} ms of CPU a request; client over {LATE_MS:.0f} ms late with "
        f"{result['late_share']:.1%} (p99 {result['client_late_p99_ms']:.1f} ms)",
        flush=True,
    )
    return result


async def serve_bare(port: int) -> None:
    """Serve the calibration handler: it reads the body and answers 202."""
    from aiohttp import web

    async def handler(request: web.Request) -> web.Response:
        await request.read()
        return web.Response(body=b'{"status":"accepted"}', status=202, content_type="application/json")

    app = web.Application()
    app.router.add_post(PRODUCER_PATH, handler)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    await asyncio.Event().wait()


def start_bare(folder: Path) -> tuple[subprocess.Popen[bytes], int]:
    """Start the bare handler in its own process."""
    port = free_port()
    argv = [sys.executable, "-m", "benchmarks.gateway", "--serve-bare", str(port)]
    process = spawn(argv, log_path=folder / "bare.log", cwd=Path(__file__).resolve().parents[1])
    deadline = time.monotonic() + 30
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            assert process.poll() is None, (folder / "bare.log").read_text()
            assert time.monotonic() < deadline, "the bare handler did not come up"
            time.sleep(0.1)
        else:
            return process, port


def run(rate: float, seconds: float, rounds: int, kind: str) -> dict[str, Any]:
    """Run all rounds."""
    with ExitStack() as cleanup:
        folder = Path(cleanup.enter_context(tempfile.TemporaryDirectory(prefix="nexus-gateway-")))
        if kind == "kafka":
            broker: Any = cleanup.enter_context(KafkaCluster.start(data_dir=folder / "kafka"))
        else:
            broker = cleanup.enter_context(EmbeddedBroker.start(log_path=folder / "broker.log"))
        stack = Stack(
            folder,
            broker.bootstrap_servers,
            "postgresql://unused@127.0.0.1:1/none",
            NEXUS_TOPIC_PARTITIONS="6",
            NEXUS_GATEWAY_REQUESTS_PER_MINUTE="100000000",
        )
        cleanup.callback(stack.stop_all)
        asyncio.run(apply_topics(stack.settings))
        stack.start_all("gateway")
        bare, bare_port = start_bare(folder)
        cleanup.callback(stop_process, bare, 10.0)
        gateway = stack.processes["gateway"]
        gateway_port = int(gateway.url.rsplit(":", 1)[1])
        ours: list[dict[str, Any]] = []
        theirs: list[dict[str, Any]] = []
        for number in range(rounds + 1):
            length = WARM_UP_SECONDS if number == 0 else seconds
            print(f"round {number}{' (warm-up)' if number == 0 else ''}", flush=True)
            theirs.append(one_round("bare handler", bare.pid, bare_port, rate, length))
            ours.append(one_round("gateway", gateway.process.pid, gateway_port, rate, length))
    return {
        "broker": kind,
        "rate": rate,
        "gateway": ours[1:],
        "bare": theirs[1:],
        "p50_ms": statistics.median(each["p50_ms"] for each in ours[1:]),
        "p99_ms": statistics.median(each["p99_ms"] for each in ours[1:]),
        "p99_spread_ms": [min(each["p99_ms"] for each in ours[1:]), max(each["p99_ms"] for each in ours[1:])],
        "bare_p50_ms": statistics.median(each["p50_ms"] for each in theirs[1:]),
        "bare_p99_ms": statistics.median(each["p99_ms"] for each in theirs[1:]),
        "cpu_ms_a_request": statistics.median(each["cpu_ms_a_request"] for each in ours[1:]),
        "bare_cpu_ms_a_request": statistics.median(each["cpu_ms_a_request"] for each in theirs[1:]),
        "goal_p99_ms": GOAL_P99_MS,
    }


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=float, default=1000.0, help="requests a second")
    parser.add_argument("--seconds", type=float, default=15.0, help="of each round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--broker", choices=["kafka", "embedded"], default="embedded" if available() else "kafka")
    parser.add_argument("--json", action="store_true", help="print the result as JSON at the end")
    parser.add_argument("--serve-bare", type=int, metavar="PORT", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    install_uvloop()
    if arguments.serve_bare:
        asyncio.run(serve_bare(arguments.serve_bare))
        return
    result = run(arguments.rate, arguments.seconds, arguments.rounds, arguments.broker)
    low, high = result["p99_spread_ms"]
    print(
        f"\n202 at {result['rate']:,.0f} requests/s on {result['broker']}: p50 {result['p50_ms']:.1f} ms, p99 "
        f"{result['p99_ms']:.1f} ms (from {low:.1f} to {high:.1f}); a bare handler p50 {result['bare_p50_ms']:.1f} ms, "
        f"p99 {result['bare_p99_ms']:.1f} ms\nCPU a request: {result['cpu_ms_a_request']:.2f} ms, a bare handler "
        f"{result['bare_cpu_ms_a_request']:.2f} ms"
    )
    print(f"{'met    ' if result['p99_ms'] < GOAL_P99_MS else 'MISSED '}p99 below {GOAL_P99_MS:.0f} ms")
    if arguments.json:
        print(json.dumps(result))


if __name__ == "__main__":
    main()
