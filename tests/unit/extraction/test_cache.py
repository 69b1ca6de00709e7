"""The cache's key, its value, and the bounded memory cache."""

import pytest

from nexus_stream.contracts.prospect import Arquetipo, Objecion, Signal, SignalName
from nexus_stream.extraction.cache import MemoryCache, cache_key, decode_findings, encode_findings
from nexus_stream.extraction.extractor import Findings, MadeBy, Turn, Usage

CLAUDE = MadeBy("claude", "claude-haiku-5-5", "prospect-v1-00000000")
TURNS = (Turn("assistant", "¿Con quién hablo?"), Turn("user", "soy Irma del Valle 🙂"))
FOUND = Findings(
    nombre="Irma del Valle",
    email="irma@example.com",
    telefono="+573005550102",
    ocupacion="vendo arepas",
    objeciones=(Objecion.PRICE, Objecion.MLM),
    arquetipo=Arquetipo.LIDER_HOGAR,
    signals=(Signal(name=SignalName.NOMBRE, turn=1, start=4, end=18),),
    dropped_fields=("telefono",),
    usage=Usage(300, 150, 1500, 0.001, 1200.0),
)


@pytest.mark.parametrize(
    ("made_by", "turns"),
    [
        (MadeBy("claude", "claude-other", CLAUDE.prompt_version), TURNS),
        (MadeBy("claude", CLAUDE.model, "prospect-v1-11111111"), TURNS),
        (CLAUDE, TURNS[:1]),
        (CLAUDE, (Turn("user", TURNS[0].content), TURNS[1])),
        (CLAUDE, (TURNS[0], Turn("user", TURNS[1].content + " "))),
        (CLAUDE, (TURNS[0], Turn("user", "soy"), Turn("user", "Irma del Valle 🙂"))),
    ],
)
def test_everything_that_an_answer_depends_on_changes_the_key(made_by, turns):
    assert cache_key(made_by, turns) != cache_key(CLAUDE, TURNS)


def test_the_key_reveals_nothing_of_the_conversation():
    key = cache_key(CLAUDE, list(TURNS))
    assert key == cache_key(CLAUDE, TURNS)
    assert len(key) == 64
    assert int(key, 16)


def test_findings_come_back_without_their_cost():
    again = decode_findings(encode_findings(FOUND))
    assert again is not None
    assert (again.nombre, again.objeciones, again.arquetipo) == (FOUND.nombre, FOUND.objeciones, FOUND.arquetipo)
    assert (again.signals, again.dropped_fields, again.usage) == (FOUND.signals, FOUND.dropped_fields, Usage())
    assert isinstance(again.signals[0], Signal)


def test_a_value_has_only_extracted_text():
    value = encode_findings(Findings(signals=FOUND.signals)).decode()
    assert "soy" not in value
    assert "Irma" not in value


@pytest.mark.parametrize("value", [b"", b"{", b"[]", b'{"signals": 3}', b"\xff\xfe"])
def test_a_foreign_value_is_a_miss(value):
    assert decode_findings(value) is None


async def test_the_memory_keeps_the_most_recently_used():
    cache = MemoryCache(max_entries=2, ttl_seconds=60)
    await cache.put("a", b"1")
    await cache.put("b", b"2")
    await cache.get("a")
    await cache.put("c", b"3")
    assert [await cache.get(key) for key in "abc"] == [b"1", None, b"3"]
    assert len(cache) == 2


async def test_the_memory_expires_entries_and_can_be_cleared():
    now = 0.0
    cache = MemoryCache(max_entries=10, ttl_seconds=60, now=lambda: now)
    await cache.put("a", b"1")
    now = 59.0
    assert await cache.get("a") == b"1"
    await cache.put("b", b"2")
    now = 60.0
    assert await cache.get("a") is None
    await cache.clear()
    assert await cache.get("b") is None


async def test_a_cache_of_zero_entries_stores_nothing():
    cache = MemoryCache(max_entries=0, ttl_seconds=60)
    await cache.put("a", b"1")
    assert await cache.get("a") is None
