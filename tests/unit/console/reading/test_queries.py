from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nexus_stream.console.index.read_model import ReadModel
from nexus_stream.console.index.session_row import ChangelogRecord
from nexus_stream.console.reading import queries, walking
from nexus_stream.console.reading.filters import Cursor, SessionFilter
from nexus_stream.console.reading.queries import SessionQueries, TooSlowError, reading
from nexus_stream.contracts.prospect import ExtractionFacts

TOPIC = "nexus-enricher-sessions-changelog"
MakeRecord = Callable[..., ChangelogRecord]


def session_ids(model: ReadModel, text: str = "", **values: str) -> list[str]:
    page = SessionQueries(model.path).page(SessionFilter(text, **values), None, 100)
    assert page.next_cursor is None
    return [row["session_id"] for row in page.rows]


@settings(max_examples=60, deadline=None)
@given(
    sessions=st.dictionaries(
        st.binary(min_size=1, max_size=6),
        st.tuples(st.integers(0, 3), st.sampled_from(["enriched", "dead"]), st.sampled_from(["caliente", "frio"])),
        max_size=30,
    ),
    limit=st.integers(1, 8),
    status=st.sampled_from([None, "enriched", "dead"]),
    momento=st.sampled_from([None, "caliente"]),
)
def test_pages_are_complete_ordered_and_without_duplicates(
    tmp_path_factory: pytest.TempPathFactory,
    sessions: dict[bytes, tuple[int, str, str]],
    limit: int,
    status: str | None,
    momento: str | None,
) -> None:
    model = ReadModel(tmp_path_factory.mktemp("model"), TOPIC)
    records = [
        ChangelogRecord(
            0,
            offset,
            seen_ms + 1,
            key,
            json.dumps({"status": of, "prospect": {"momento_optimo": moment}, "last_seen_ms": seen_ms + 1}).encode(),
        )
        for offset, (key, (seen_ms, of, moment)) in enumerate(sessions.items())
    ]
    model.apply(records)
    reader, after, listed = SessionQueries(model.path), None, []
    while True:
        page = reader.page(SessionFilter("", status, momento), after, limit)
        assert len(page.rows) <= limit
        listed += [(-row["last_seen_ms"], row["key"]) for row in page.rows]
        if page.next_cursor is None:
            break
        after = Cursor.parse(str(page.next_cursor))
    model.close()
    expected = sorted(
        (-(seen_ms + 1), key)
        for key, (seen_ms, of, moment) in sessions.items()
        if status in {None, of} and momento in {None, moment}
    )
    assert listed == expected


@pytest.mark.parametrize(
    "text",
    [
        "Carlos",
        "carlos núñez",
        "NUNEZ carlos",
        "arlo",
        "CARLOS@example.com",
        "573005550102",
        "300 555-0102",
        "(300) 555 01 02",
        "fp-abc",
        "sess",
        "ca",  # shorter than the index's three letters
        "ca núñez",
        "e",
    ],
)
def test_search_finds_by_any_field_and_part(model: ReadModel, make_record: MakeRecord, text: str) -> None:
    model.apply(
        [
            make_record(
                "sess-1",
                0,
                nombre="Carlos Núñez",
                email="carlos@example.com",
                telefono="+573005550102",
                fingerprints=("fp-abc", "fp-def"),
            ),
            make_record("zzz", 1, nombre="Lu"),
        ]
    )
    assert session_ids(model, text) == ["sess-1"]


@pytest.mark.parametrize(
    "text", ["%", "_", '"', "'", "carlos OR lu", "NEAR(carlos)", "car*", "-lu", "a:b", "\x00", "12345 67"]
)
def test_search_takes_signs_literally(model: ReadModel, make_record: MakeRecord, text: str) -> None:
    model.apply([make_record("one", 0, nombre="Carlos"), make_record("two", 1, nombre="Lu")])
    expected = ["two", "one"] if text == "\x00" else []
    assert session_ids(model, text) == expected


def test_search_finds_the_sign_itself(model: ReadModel, make_record: MakeRecord) -> None:
    model.apply([make_record('a%_"b', 0), make_record("ab", 1)])
    for text in ("%", "_", '"', '%_"'):
        assert session_ids(model, text) == ['a%_"b'], text


def test_a_term_with_many_matches_lists_the_same_as_the_index(
    model: ReadModel, make_record: MakeRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    model.apply(
        [make_record(f"s-{number}", number, nombre=("Carla" if number % 2 else "Berta")) for number in range(40)]
    )
    by_index = session_ids(model, "carla")
    monkeypatch.setattr(queries, "_SORTED_MATCHES_MAX", 3)
    assert session_ids(model, "carla") == by_index
    assert len(by_index) == 20


def test_search_joins_filters_and_pages(model: ReadModel, make_record: MakeRecord) -> None:
    model.apply(
        [
            make_record(f"s-{number}", number, nombre="Carla", status=("dead" if number % 3 else "enriched"))
            for number in range(30)
        ]
    )
    reader = SessionQueries(model.path)
    first = reader.page(SessionFilter("carla", "dead"), None, 15)
    assert first.next_cursor is not None
    second = reader.page(SessionFilter("carla", "dead"), first.next_cursor, 15)
    assert second.next_cursor is None
    listed = [row["session_id"] for row in (*first.rows, *second.rows)]
    assert listed == [f"s-{number}" for number in reversed(range(30)) if number % 3]


def test_filter_finds_a_status_from_a_newer_version(model: ReadModel) -> None:
    model.apply([ChangelogRecord(0, 0, 1, b"k", b'{"status": "archived"}')])
    assert session_ids(model, status="archived") == ["k"]
    assert SessionQueries(model.path).counts() == {"archived": 1}


@pytest.mark.parametrize("text", ["", ".", "1", "1.%", "x.YQ", "-1.YQ", "1.Y", "٣.YQ", "9" * 30 + ".YQ", "1.é"])
def test_a_malformed_cursor_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="no cursor"):
        Cursor.parse(text)


@given(st.integers(0, 10**17), st.binary(max_size=40))
def test_cursor_survives_its_link(milliseconds: int, key: bytes) -> None:
    cursor = Cursor(milliseconds, key)
    assert Cursor.parse(str(cursor)) == cursor


def test_session_by_key(model: ReadModel, make_record: MakeRecord, tmp_path: Path) -> None:
    record = make_record("a:b", 4, tenant_id="acme")
    model.apply([record])
    reader = SessionQueries(model.path)
    row = reader.session(record.key)
    assert row is not None
    assert row["session_id"] == "a:b"
    assert reader.session(b"a:b") is None


def test_a_whole_identifier_lists_it_alone(model: ReadModel, make_record: MakeRecord) -> None:
    model.apply(
        [
            make_record("visit-2026-0001", 0, email="ana@example.com", fingerprints=("0123456789abcdef",)),
            make_record("visit-2026-00012", 1, nombre="visit-2026-0001"),
            make_record("visit-2026-0001", 2, tenant_id="acme"),
            make_record("a:long:session", 3),
        ]
    )
    assert session_ids(model, "visit-2026-0001") == ["visit-2026-0001"]
    assert session_ids(model, "acme:visit-2026-0001") == ["visit-2026-0001"]
    assert session_ids(model, "a:long:session") == ["a:long:session"]
    assert session_ids(model, "0123456789abcdef") == ["visit-2026-0001"]
    assert session_ids(model, "ANA@example.com") == ["visit-2026-0001"]
    # A part of an identifier is a normal search.
    assert len(session_ids(model, "visit-2026-000")) == 3
    assert session_ids(model, "visit-2026-0001", status="dead") == []


@pytest.mark.parametrize(
    "values",
    [
        {"status": "dead"},
        {"momento": "caliente"},
        {"arquetipo": "lider_hogar"},
        {"objecion": "price"},
        {"extractor": "claude"},
        {"status": "dead", "objecion": "price"},
        {"objecion": "price", "extractor": "claude", "momento": "caliente", "text": "car"},
        {"since": "2025-10-09T08:53:20+00:00"},
        {"until": "2025-10-09T08:53:20+00:00", "text": "carla"},
        {"objecion": "' OR 1"},
        {"status": "nobody's"},
    ],
)
def test_filters_match_a_full_scan(
    model: ReadModel, make_record: MakeRecord, values: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    model.apply(
        [
            make_record(
                f"s-{number}",
                number,
                nombre="Carla" if number % 2 else "Berta",
                status="dead" if number % 3 == 0 else "enriched",
                momento_optimo="caliente" if number % 5 == 0 else "frio",
                arquetipo="lider_hogar" if number % 7 == 0 else None,
                objeciones=("price", "time") if number % 4 == 0 else ("trust",),
                extraction=ExtractionFacts(extractor="claude" if number % 2 else "offline-rules-v1"),
                last_seen_ms=1_760_000_000_000 + (number - 50) * 1000,
            )
            for number in range(100)
        ]
    )
    wanted = SessionFilter(**values)
    since_ms, until_ms = wanted.bounds_ms(0)
    expected = []
    for number in reversed(range(100)):
        seen = 1_760_000_000_000 + (number - 50) * 1000
        row = {
            "status": "dead" if number % 3 == 0 else "enriched",
            "momento": "caliente" if number % 5 == 0 else "frio",
            "arquetipo": "lider_hogar" if number % 7 == 0 else None,
            "extractor": "claude" if number % 2 else "offline-rules-v1",
        }
        objections = ("price", "time") if number % 4 == 0 else ("trust",)
        holds = all(row[name] == values[name] for name in row if name in values)
        holds &= "objecion" not in values or values["objecion"] in objections
        holds &= "text" not in values or bool(number % 2)
        holds &= (since_ms is None or seen >= since_ms) and (until_ms is None or seen < until_ms)
        if holds:
            expected.append(f"s-{number}")
    page = SessionQueries(model.path).page(wanted, None, 200)
    assert [row["session_id"] for row in page.rows] == expected


def test_facets_are_counted_as_they_change(model: ReadModel, make_record: MakeRecord) -> None:
    model.apply([make_record("a", 0, objeciones=("price", "mlm")), make_record("b", 1, objeciones=("price",))])
    model.apply([make_record("a", 2, objeciones=("time",), status="dead"), ChangelogRecord(0, 3, 1, b"b", None)])
    facets = SessionQueries(model.path).facets()
    assert facets["objecion"] == {"time": 1}
    assert facets["status"] == {"dead": 1}


def test_a_query_that_takes_too_long_is_cancelled(model: ReadModel, make_record: MakeRecord) -> None:
    model.apply([make_record(f"s-{number}", number) for number in range(200)])
    with pytest.raises(TooSlowError), reading(model.path, seconds=0.05) as db:
        db.execute("SELECT count(*) FROM sessions a, sessions b, sessions c, sessions d").fetchone()


def test_a_short_word_joins_longer_ones(model: ReadModel, make_record: MakeRecord) -> None:
    model.apply(
        [
            make_record("one", 0, nombre="Carlos Lu"),
            make_record("two", 1, nombre="Carlos Paz"),
            make_record("three", 2, nombre="Ana Lu"),
        ]
    )
    assert session_ids(model, "carlos lu") == ["one"]
    assert session_ids(model, "lu carlos") == ["one"]
    assert session_ids(model, "lu") == ["three", "one"]


def test_a_session_is_linked_and_found_by_every_fingerprint_it_came_with(
    model: ReadModel, make_record: MakeRecord
) -> None:
    old, new = "fingerprint-AAAA-1111", "fingerprint-BBBB-2222"
    model.apply(
        [
            make_record("a", 0, fingerprints=(old, new)),
            make_record("b", 1, fingerprints=(old,)),
            make_record("c", 2, fingerprints=(new,)),
            make_record("d", 3, fingerprints=("fingerprint-DDDD-3333",)),
            make_record("e", 4, tenant_id="acme", fingerprints=(old, new)),
        ]
    )
    reader = SessionQueries(model.path)

    def others(key: bytes) -> list[str]:
        row = reader.session(key)
        assert row is not None
        return [other["session_id"] for other in reader.others_of_person(row, 20)]

    assert others(b"a") == ["c", "b"]
    assert others(b"b") == ["a"]
    assert others(b"d") == []
    for whole in (old, new):
        assert sorted(session_ids(model, whole)) == sorted(session_ids(model, whole[:-1]))
    assert sorted(session_ids(model, old)) == ["a", "b", "e"]
    # A deleted session links nothing. A removed fingerprint links nothing either.
    model.apply([make_record("a", 5, fingerprints=(new,)), ChangelogRecord(0, 6, 1, b"c", None)])
    assert others(b"a") == others(b"b") == []
    assert sorted(session_ids(model, old)) == ["b", "e"]


def test_only_the_newest_other_sessions_are_shown(model: ReadModel, make_record: MakeRecord) -> None:
    ways: list[dict[str, Any]] = [
        {"email": "ana@example.com"},
        {"telefono": "+573005550102"},
        {"fingerprints": ("fingerprint-AAAA-1111",)},
    ]
    model.apply([make_record(f"s-{at}", at, last_seen_ms=1000 + at, **ways[at % 3]) for at in range(120)])
    model.apply([make_record("me", 120, last_seen_ms=1, **ways[0], **ways[1], **ways[2])])
    reader = SessionQueries(model.path)
    row = reader.session(b"me")
    assert row is not None
    assert [other["session_id"] for other in reader.others_of_person(row, 20)] == [
        f"s-{at}" for at in range(119, 99, -1)
    ]


@pytest.mark.parametrize("values", [{}, {"status": "dead"}, {"objecion": "price"}, {"since": "2025-10-09T08:53:21Z"}])
def test_a_search_that_is_cut_short_goes_on_at_the_next_page(
    model: ReadModel, make_record: MakeRecord, monkeypatch: pytest.MonkeyPatch, values: dict[str, str]
) -> None:
    names = ["Zq", "Ana", "Eva", "Luz"]
    model.apply(
        [
            make_record(
                f"s-{number}",
                number,
                nombre=names[number % 4] if number < 30 else "Ana",
                status="dead" if number % 3 else "enriched",
                objeciones=("price",) if number % 3 == 1 else (),
                # Two rows per time, so that a chunk ends between equal times.
                last_seen_ms=1_760_000_000_000 + number // 2 * 100,
            )
            for number in range(60)
        ]
    )
    reader, wanted = SessionQueries(model.path), SessionFilter("zq", **values)
    at_once = reader.page(wanted, None, 100)
    assert at_once.next_cursor is None
    monkeypatch.setattr(walking, "_CHUNK_ROWS", 5)
    monkeypatch.setattr(walking, "_WALK_SECONDS", -1.0)
    seen: list[bytes] = []
    after, cut_short = None, 0
    while True:
        page = reader.page(wanted, after, 3)
        seen += [row["key"] for row in page.rows]
        cut_short += page.is_cut_short
        if page.next_cursor is None:
            break
        after = Cursor.parse(str(page.next_cursor))
    assert seen == [row["key"] for row in at_once.rows]
    assert seen
    assert cut_short > 1


def test_a_search_that_no_index_serves_ends_in_time(
    model: ReadModel, make_record: MakeRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(walking, "_CHUNK_ROWS", 10)
    monkeypatch.setattr(walking, "_WALK_SECONDS", 0.0)
    model.apply([make_record(f"s-{number}", number, nombre="Ana") for number in range(50)])
    page = SessionQueries(model.path).page(SessionFilter("zq"), None, 10)
    assert (page.rows, page.is_cut_short) == ((), True)
    assert page.next_cursor is not None
    # The scan covered the ten newest rows.
    assert page.next_cursor.key == b"s-40"
