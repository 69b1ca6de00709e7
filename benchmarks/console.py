"""``python -m benchmarks.console [SESSIONS]``: the console with many sessions, measured over its own HTTP.

The sessions are generated and encoded as by the enricher. The output is a table of times and memory. The exit code is
1 if the median of a search or a page is 100 ms or more, or the serving process needs 300 MB or more. Absolute times
depend on the machine: a calibration time of the same run is printed with them.
"""

from __future__ import annotations

import contextlib
import json
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import psutil

from nexus_stream.console.command import open_model
from nexus_stream.console.index.session_row import ChangelogRecord
from nexus_stream.contracts.prospect import Arquetipo, ExtractionFacts, Momento, Objecion, Prospect, Signal, SignalName
from nexus_stream.contracts.session_key import session_key
from nexus_stream.settings import Settings
from tables.session_state import Counters, SessionState, encode_state

MAX_MS = 100.0
MAX_MB = 300.0
_BATCH = 1000
_ROUNDS = 15
_START_MS = 1_760_000_000_000
_NAMES = ("Ana", "Carlos", "Lucía", "José", "Marcela", "Andrés", "Valentina", "Julián", "Paula", "Camila")
_SURNAMES = ("Núñez", "Ramírez", "Torres", "Mejía", "Ortega", "Nieto", "Salazar", "Peña", "Gómez", "Castro")


def _records(count: int) -> Iterator[ChangelogRecord]:
    chance = random.Random(11)  # noqa: S311 - the same sessions every time
    extraction = ExtractionFacts(
        extractor="claude",
        model="claude-haiku-5-5",
        prompt_version="v1",
        signals=tuple(Signal(name=name, turn=2, start=10, end=20) for name in list(SignalName)[:5]),
        input_tokens=900,
        output_tokens=120,
        cost_usd=0.00015,
        latency_ms=1500.0,
    )
    for number in range(count):
        name = f"{chance.choice(_NAMES)} {chance.choice(_SURNAMES)} {chance.choice(_SURNAMES)}"
        prospect = Prospect(
            nombre=name if chance.random() < 0.7 else None,
            email=f"persona{number}@example.com" if chance.random() < 0.5 else None,
            telefono=f"+57300{number:07}" if chance.random() < 0.4 else None,
            nivel_interes=chance.randrange(21) / 2,
            objeciones=tuple(objection for objection in Objecion if chance.random() < 0.15),
            arquetipo=chance.choice([None, *Arquetipo]),
            momento_optimo=chance.choices(list(Momento), (1, 4, 15))[0],
        )
        state = SessionState(
            session_id=f"session-{number:08x}",
            fingerprints=(f"{chance.getrandbits(128):032x}",),
            status="dead" if chance.random() < 0.001 else "enriched",
            chain=tuple(f"{chance.getrandbits(48):012x}" for _ in range(6)),
            turns=6,
            digest=f"{number:032x}",
            prospect=prospect,
            extraction=extraction,
            enriched_at="2026-01-02T03:04:05.678+00:00",
            first_url="https://www.example.com/oportunidad",
            counters=Counters(snapshots=3, calls=1),
            first_seen_ms=_START_MS + number,
            last_seen_ms=_START_MS + number,
        )
        yield ChangelogRecord(
            number % 6, number // 6, _START_MS + number, session_key("", state.session_id), encode_state(state)
        )


def _fill(settings: Settings, count: int) -> float:
    """Index the sessions. Return the sessions per second."""
    model = open_model(settings)
    started, spent = time.monotonic(), 0.0
    batch: list[ChangelogRecord] = []
    for record in _records(count):
        batch.append(record)
        if len(batch) == _BATCH:
            began = time.monotonic()
            model.apply(batch)
            spent += time.monotonic() - began
            batch.clear()
            if record.offset * 6 % 100_000 < 6 * _BATCH and sys.stderr.isatty():
                print(f"  {record.offset * 6:,} after {time.monotonic() - started:.0f} s", file=sys.stderr)
    model.apply(batch)
    model.bind("bench", dict.fromkeys(range(6), 0), dict.fromkeys(range(6), count // 6 + 1), time.time_ns() // 10**6)
    model.close()
    return count / max(spent, 0.001)


def _questions(count: int) -> dict[str, str]:
    middle = f"{_START_MS + count // 2}.c2Vzc2lvbg"
    return {
        "page: first": "/sessions",
        "page: in the middle": f"/sessions?after={middle}",
        "page: rare status": "/sessions?status=dead",
        "page: momento": "/sessions?momento=caliente",
        "page: archetype and objection": "/sessions?arquetipo=lider_hogar&objecion=mlm",
        "page: rare with common": "/sessions?status=dead&momento=frio&extractor=claude",
        "page: nothing matches": "/sessions?status=dead&objecion=mlm&momento=caliente&arquetipo=lider_hogar",
        "page: one session": f"/sessions/~/session-{count // 3:08x}",
        "page: overview": "/",
        "search: e-mail": f"/sessions?q=persona{count // 2}%40example.com",
        "search: phone": f"/sessions?q=300%20{count // 5:07}",
        "search: session": f"/sessions?q=session-{count // 7:08x}",
        "search: common name": f"/sessions?q={quote('lucia ramirez')}",
        "search: common name, rare status": f"/sessions?q={quote('lucia')}&status=dead",
        "search: nobody": "/sessions?q=zzyzx",
        "search: part that all have": "/sessions?q=example.com",
        "search: two letters, nobody": "/sessions?q=zq",
        "search: common name and two letters": "/sessions?q=ana%20zq",
        "search: many matches, all old": "/sessions?q=session-0000",
        "api: sessions": "/api/v1/sessions?limit=50",
    }


def _serve(settings: Settings, port: int) -> None:
    """Serve in a separate process, so that only serving is measured."""
    from aiohttp import web

    from nexus_stream.console.web.app import make_app

    model = open_model(settings)
    web.run_app(make_app(settings, model), host="127.0.0.1", port=port, access_log=None, print=None)


def _calibrate() -> float:
    """Milliseconds of a fixed calculation on this machine."""
    began = time.monotonic()
    json.loads(json.dumps([{"a": [number, str(number)]} for number in range(20_000)]))
    return (time.monotonic() - began) * 1000


def main() -> int:
    """Fill the index, serve it, send the requests, and report."""
    if len(sys.argv) > 2 and sys.argv[1] == "--serve":
        _serve(Settings(data_dir=Path(sys.argv[2]), kafka_bootstrap_servers="127.0.0.1:1"), int(sys.argv[3]))
        return 0
    count = int(sys.argv[1].replace("_", "")) if len(sys.argv) > 1 else 1_000_000
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        settings = Settings(data_dir=Path(folder))
        rate = _fill(settings, count)
        size_mb = sum(path.stat().st_size for path in Path(folder).rglob("*")) / 2**20
        with socket.create_server(("127.0.0.1", 0)) as holder:
            port = holder.getsockname()[1]
        # The session page looks for a broker, finds none, and shows that.
        log = stack.enter_context((Path(folder) / "server.log").open("wb"))
        server = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.console", "--serve", folder, str(port)], stderr=log
        )
        try:
            return _ask(server, port, count, rate, size_mb)
        finally:
            server.terminate()
            server.wait(10)


def _ask(server: subprocess.Popen[bytes], port: int, count: int, rate: float, size_mb: float) -> int:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    base = f"http://127.0.0.1:{port}"
    deadline = time.monotonic() + 30
    while True:
        try:
            opener.open(f"{base}/live", timeout=2).read()
            break
        except OSError:
            assert time.monotonic() < deadline, "the server did not start"
            time.sleep(0.1)
    failed = []
    print(f"{count:,} sessions, {rate:,.0f} indexed/s, file {size_mb:,.0f} MB, calibration {_calibrate():.0f} ms")
    process, peak_mb = psutil.Process(server.pid), 0.0
    for name, path in _questions(count).items():
        times = []
        for _ in range(_ROUNDS):
            began = time.monotonic()
            opener.open(base + path, timeout=30).read()
            times.append((time.monotonic() - began) * 1000)
            peak_mb = max(peak_mb, process.memory_info().rss / 2**20)
        median, worst = statistics.median(times), max(times)
        mark = "" if median < MAX_MS else f"  OVER {MAX_MS:.0f} ms"
        failed += [name] if mark else []
        print(f"  {name:<34} p50 {median:7.1f} ms   max {worst:7.1f} ms{mark}")
    print(f"  memory of the serving process        {peak_mb:7.0f} MB" + ("" if peak_mb < MAX_MB else "  OVER"))
    return int(bool(failed) or peak_mb >= MAX_MB)


if __name__ == "__main__":
    sys.exit(main())
