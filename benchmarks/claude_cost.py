"""The cost of 1,000 chats (calls, tokens, USD): with settling and the prompt cache, and with a call per turn.

    python -m benchmarks.claude_cost [--chats 1000] [--medians 5 20 60] [--bytes-per-token 3]
        [--settle 10] [--max-wait 60] [--json]

Each chat has six turns of the user, each answered. The site posts the whole conversation after every answer. The gaps
between posts are random (seeded, log-normal) around a median. The chats start within eight hours. The snapshots pass
the enricher's own `Settling` on a simulated clock. The production extractor reads the settled snapshots over HTTP with
the real SDK.

The API is our stand-in, which counts tokens: one for three bytes of UTF-8. (Claude's tokenizer is not public.
Anthropic's rule of thumb is 2.5 characters a token, which gives 1.2 times as many.) It caches a marked prompt of 512
tokens or more for five minutes of the simulated clock. Its answers are as long as real ones, without thinking. The
prices are the list prices in extraction/claude/prices.py. A batch reads each finished chat once. Its requests may all
read the prompt from the cache, or none: the table shows both limits.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import heapq
import json
import math
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from nexus_stream.backfill.estimate import batch_price
from nexus_stream.contracts.conversation import Limits, decode
from nexus_stream.delivery.received import Received
from nexus_stream.delivery.settling import Joined, Settling, Snapshot, Work
from nexus_stream.extraction.claude.extractor import ClaudeExtractor
from nexus_stream.extraction.claude.prices import Price, TokenCounts, cost_usd, price_of
from nexus_stream.extraction.extractor import Turn
from nexus_stream.extraction.rules.extractor import find
from nexus_stream.settings import Settings, load_settings

CACHEABLE_TOKENS = 512
CACHE_SECONDS = 300.0
CALL_SECONDS = 1.5
DAY_SECONDS = 8 * 3600.0
TURNS = 6
GAP_SIGMA = 0.6  # one gap in six is at least 1.8 times the median
GOAL_USD = 0.15
FINISHED = "once, when finished"

_NAMES = ("Irma", "Carlos", "Lucía", "Andrés", "Marta", "Felipe", "Rosa", "Julián", "Paula", "Tomás")
_SURNAMES = ("del Valle", "Ruiz", "Paredes", "Guzmán", "Ríos", "Ospina", "Mejía", "Cano", "Vélez", "Duarte")
_TRADES = ("contadora", "enfermero", "vendo arepas en mi propio local", "profesora de inglés", "manejo un taxi")
_USER = (
    "Hola, buenas tardes. Vi la publicación y me dio mucha curiosidad, ¿de qué se trata?",
    "Claro, me llamo {name} {surname}, mucho gusto.",
    "Soy {trade}, y la verdad busco algo que me deje más tiempo con la familia.",
    "Suena bien, pero ¿no es muy costoso para arrancar? Ando un poco apretada este mes.",
    "Listo, quiero empezar si me explican bien cómo es la inversión.",
    "Mi WhatsApp es 301 555 {digits} y mi correo es {mail}@example.com, quedo pendiente.",
)
_ASSISTANT = (
    "¡Hola! Qué bueno que escribes. Acompañamos a personas que quieren construir un ingreso propio con un sistema ya "
    "probado. Para orientarte mejor, ¿me regalas tu nombre?",
    "¡Mucho gusto! Cuéntame un poco de ti: ¿a qué te dedicas hoy y qué te gustaría que cambiara en los próximos meses?",
    "Te entiendo, el tiempo es justo lo que más valoran quienes empiezan. Se puede llevar en las horas que te queden "
    "libres, con acompañamiento cada semana.",
    "Es una buena pregunta. Hay tres maneras de comenzar y la más sencilla cuesta menos que un mercado; lo vemos con "
    "calma y sin compromiso, según lo que te convenga.",
    "¡Excelente! El siguiente paso es una llamada corta con una persona del equipo. ¿A qué número y correo te "
    "escribimos?",
    "Perfecto, ya quedó anotado. Te contactan hoy mismo. ¡Gracias por tu confianza!",
)


@dataclass
class Meter:
    """The stand-in API: answers, counts, and caches the prompt for five minutes of the simulated clock."""

    with_cache: bool
    bytes_per_token: float
    now: float = 0.0
    calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    _cached_until: dict[str, float] = field(default_factory=dict)

    async def answer(self, request: web.Request) -> web.Response:
        """Answer one call."""
        body = await request.json()
        (prompt,) = body["system"]
        schema = json.dumps(body["output_config"]["format"]["schema"])
        prompt_tokens = self._tokens(prompt["text"] + schema)
        turns = [Turn(turn["role"], turn["content"]) for turn in json.loads(body["messages"][0]["content"])]
        text = answer_for(turns)
        usage = {"input_tokens": self._tokens(body["messages"][0]["content"]), "output_tokens": self._tokens(text)}
        if self.with_cache and "cache_control" in prompt and prompt_tokens >= CACHEABLE_TOKENS:
            is_cached = self._cached_until.get(prompt["text"], -math.inf) > self.now
            usage["cache_read_input_tokens" if is_cached else "cache_creation_input_tokens"] = prompt_tokens
            self._cached_until[prompt["text"]] = self.now + CACHE_SECONDS
        else:
            usage["input_tokens"] += prompt_tokens
        self.calls += 1
        self.input_tokens += usage["input_tokens"]
        self.output_tokens += usage["output_tokens"]
        self.cache_read_tokens += usage.get("cache_read_input_tokens", 0)
        self.cache_write_tokens += usage.get("cache_creation_input_tokens", 0)
        message = {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "model": body["model"],
            "content": [{"type": "text", "text": text}],
            "stop_reason": "end_turn",
            "stop_sequence": None,
            "usage": usage,
        }
        return web.json_response(message)

    def _tokens(self, text: str) -> int:
        return math.ceil(len(text.encode()) / self.bytes_per_token)


def answer_for(turns: list[Turn]) -> str:
    """An answer of realistic length: the findings of the offline rules, with quotes in Claude's format."""
    found = find(turns, default_region="CO")
    evidence = [
        {
            "senal": signal.name.value,
            "turno": signal.turn,
            "cita": turns[signal.turn].content[signal.start : signal.end],
        }
        for signal in found.signals
    ]
    return json.dumps(
        {
            "nombre": found.nombre,
            "email": found.email,
            "telefono": found.telefono,
            "ocupacion": found.ocupacion,
            "arquetipo": found.arquetipo,
            "objeciones": list(found.objeciones),
            "evidencias": evidence,
        },
        ensure_ascii=False,
        separators=(",", ":"),
    )


def chat(index: int) -> list[dict[str, str]]:
    """One whole chat: six turns of the user, six of the assistant."""
    chance = random.Random(index)  # noqa: S311 - made-up people
    facts = {
        "name": chance.choice(_NAMES),
        "surname": chance.choice(_SURNAMES),
        "trade": chance.choice(_TRADES),
        "digits": f"{chance.randrange(10_000):04d}",
        "mail": f"correo{index}",
    }
    messages = []
    for said, answered in zip(_USER, _ASSISTANT, strict=True):
        messages += [
            {"role": "user", "content": said.format(**facts)},
            {"role": "assistant", "content": answered},
        ]
    return messages


def posts(chats: int, median_seconds: float) -> list[tuple[float, Snapshot]]:
    """Every post of every chat, ordered by time."""
    chance = random.Random(2026)  # noqa: S311 - the same gaps in every run
    arrivals = []
    for index in range(chats):
        at = chance.uniform(0.0, DAY_SECONDS)
        messages = chat(index)
        for turn in range(1, TURNS + 1):
            body = {"messages": messages[: 2 * turn], "sessionId": f"session-{index}"}
            arrivals.append((at, index, turn, json.dumps(body).encode()))
            at += chance.lognormvariate(math.log(median_seconds), GAP_SIGMA)
    arrivals.sort(key=lambda arrival: arrival[0])
    snapshots = []
    for offset, (at, _, _, value) in enumerate(arrivals):
        record = Received("nexus-prospect-ingestion", 0, offset, int(at * 1000), b"", value, (), epoch=0)
        snapshots.append((at, Snapshot.of(record, decode(value, Limits()))))
    return snapshots


def settled(arrivals: list[tuple[float, Snapshot]], settings: Settings) -> list[tuple[float, Snapshot]]:
    """The time and the snapshot of each extraction, from the enricher's settling on the clock of the arrivals."""
    settling = Settling(settle_seconds=settings.settle_seconds, max_wait_seconds=settings.max_wait_seconds)
    extractions: list[tuple[float, Snapshot]] = []
    running: list[tuple[float, int, Work]] = []
    queue = iter(arrivals)
    upcoming = next(queue, None)
    now = 0.0
    while upcoming is not None or len(settling):
        due = settling.next_due()
        times = [upcoming[0] if upcoming else math.inf, running[0][0] if running else math.inf]
        # For work that is already ready, the due time is "before everything".
        now = max(now, min(*times, math.inf if due is None else due))
        if running and running[0][0] <= now:
            settling.finish(heapq.heappop(running)[2])
        elif upcoming is not None and upcoming[0] <= now:
            # Only pending or running snapshots of the session count as known: this one extends an earlier result.
            if isinstance(settling.offer(upcoming[1], now), Joined.Unknown):
                settling.add(upcoming[1], now)
            upcoming = next(queue, None)
        else:
            for work in settling.take(now, settings.batch_max_sessions):
                extractions.append((now, work.snapshot))
                heapq.heappush(running, (now + CALL_SECONDS, len(extractions), work))
    return extractions


@asynccontextmanager
async def api(meter: Meter) -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_post("/v1/messages", meter.answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def extract_all(extractions: list[tuple[float, Snapshot]], meter: Meter) -> dict[str, Any]:
    """Run every extraction, in order, each at its own time."""
    usd = 0.0
    async with api(meter) as url:
        extractor = ClaudeExtractor(
            load_settings(environ={"ANTHROPIC_API_KEY": "sk-bench-0000", "ANTHROPIC_BASE_URL": url})
        )
        for at, snapshot in extractions:
            meter.now = at
            turns = [Turn(message.role, message.content) for message in snapshot.conversation.messages]
            usd += (await extractor.extract(turns)).usage.cost_usd
        await extractor.close()
    return {
        "calls": meter.calls,
        "input_tokens": meter.input_tokens,
        "cache_write_tokens": meter.cache_write_tokens,
        "cache_read_tokens": meter.cache_read_tokens,
        "output_tokens": meter.output_tokens,
        "usd": usd,
    }


async def measure(chats: int, medians: list[float], bytes_per_token: float, settings: Settings) -> list[dict[str, Any]]:
    def meter(*, with_cache: bool = True) -> Meter:
        return Meter(with_cache, bytes_per_token)

    rows = []
    for median in medians:
        extractions = settled(posts(chats, median), settings)
        rows.append({"way": f"settled, gaps of {median:g} s", **await extract_all(extractions, meter())})
    finished = settled(
        posts(chats, medians[0]),
        load_settings(environ={}, settle_seconds=3600, max_wait_seconds=3600, watchdog_seconds=7200),
    )
    rows.append({"way": FINISHED, **await extract_all(finished, meter())})
    every_post = posts(chats, medians[0])
    rows.append({"way": "a call per turn, no cache", **await extract_all(every_post, meter(with_cache=False))})
    for row in rows:
        row["calls_per_chat"] = row["calls"] / chats
        row["usd_per_1000"] = row.pop("usd") / chats * 1000
        if row["way"] == FINISHED:
            row["usd_per_1000_batch"] = [usd / chats * 1000 for usd in in_a_batch(row, settings)]
    return rows


def in_a_batch(row: dict[str, Any], settings: Settings) -> tuple[float, float]:
    """USD for the same tokens in a batch: if every request reads the prompt from the cache, and if each writes it."""
    price = batch_price(price_of(settings.claude_model))
    prompt_tokens = row["cache_read_tokens"] + row["cache_write_tokens"]
    read = TokenCounts(row["input_tokens"], row["output_tokens"], cache_read_tokens=prompt_tokens)
    written = TokenCounts(row["input_tokens"], row["output_tokens"], cache_write_tokens=prompt_tokens)
    return _short(price, read, row["calls"]), _short(price, written, row["calls"])


def _short(price: Price | None, tokens: TokenCounts, calls: int) -> float:
    # Priced call by call: the sum of all calls would count as a long prompt, with its higher price.
    each = TokenCounts(*(count // calls for count in dataclasses.astuple(tokens)))
    return cost_usd(price, each) * calls


def table(rows: list[dict[str, Any]], chats: int) -> str:
    """The table in docs/reference/claude.md, with tokens per chat."""
    lines = [
        "| way | calls per chat | input | cache written | cache read | output | USD per 1,000 | in a batch |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        tokens = " | ".join(
            f"{row[kind] / chats:,.0f}"
            for kind in ("input_tokens", "cache_write_tokens", "cache_read_tokens", "output_tokens")
        )
        lines.append(
            f"| {row['way']} | {row['calls_per_chat']:.2f} | {tokens} | {row['usd_per_1000']:.3f} "
            f"| {'–'.join(f'{usd:.3f}' for usd in row.get('usd_per_1000_batch', ()))} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--chats", type=int, default=1000)
    parser.add_argument("--medians", type=float, nargs="+", default=[5.0, 20.0, 60.0])
    parser.add_argument("--bytes-per-token", type=float, default=3.0)
    parser.add_argument("--settle", type=float, default=10.0)
    parser.add_argument("--max-wait", type=float, default=60.0)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    settings = load_settings(
        environ={}, settle_seconds=arguments.settle, max_wait_seconds=arguments.max_wait, watchdog_seconds=7200
    )
    rows = asyncio.run(measure(arguments.chats, arguments.medians, arguments.bytes_per_token, settings))
    if arguments.json:
        print(json.dumps(rows))
        return
    of_what = f"{arguments.chats} chats of {TURNS} turns, {arguments.bytes_per_token:g} bytes a token"
    print(f"{time.strftime('%Y-%m-%d')}, {of_what}; tokens per chat\n")
    print(table(rows, arguments.chats))
    best = min(row["usd_per_1000"] for row in rows)
    print(f"\ngoal: {GOAL_USD} USD per 1,000 at list price; least measured: {best:.3f}")


if __name__ == "__main__":
    main()
