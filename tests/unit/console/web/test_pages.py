from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, get_args

import pytest

import nexus_stream.console.web
from nexus_stream.console.alerts.conditions import AlertKind
from nexus_stream.console.index.letters import LetterWriter
from nexus_stream.console.index.read_model import Freshness, PartitionProgress, ReadModel
from nexus_stream.console.index.session_row import ChangelogRecord
from nexus_stream.console.index.topic_record import TopicRecord
from nexus_stream.console.reading.activity import STATES, ActivityQueries, LetterFilter
from nexus_stream.console.reading.filters import Cursor, SessionFilter
from nexus_stream.console.reading.overview import ROLES
from nexus_stream.console.reading.queries import Page, SessionQueries
from nexus_stream.console.web.access import Identity
from nexus_stream.console.web.conversation_text import shown_turns
from nexus_stream.console.web.pages import STATUSES, Pages
from nexus_stream.console.web.rendering import ago, iso, pretty_json, visible
from nexus_stream.console.web.session_pages import KNOWN_STATE_VERSION, SessionPages, ShownConversation
from nexus_stream.console.web.texts import LANGUAGES, TEXTS, translator
from nexus_stream.console.web.topic_reader import Absent
from nexus_stream.console.web.viewing import Viewing
from nexus_stream.contracts.prospect import ExtractionFacts
from nexus_stream.contracts.session_key import session_key
from nexus_stream.contracts.status import ProcessState
from nexus_stream.errors import Reason
from tables.session_state import STATE_VERSION
from tests.unit.console.payloads import XSS_PAYLOADS

NOW_MS = 1_760_000_100_000
FRESH = Freshness((PartitionProgress(0, 5, 5, NOW_MS - 1500),), None)
PACKAGE = Path(nexus_stream.console.web.__file__).parent

MakeRecord = Callable[..., ChangelogRecord]

# Compiles the templates once.
PAGES = Pages()
OPERATOR = Identity("operator", "Ana", "form-token")
VIEWER = Identity("viewer", "Vera", "form-token")


def viewing(
    identity: Identity | None = OPERATOR, language: str = "en", freshness: Freshness = FRESH, here: str = "/"
) -> Viewing:
    return Viewing(identity, language, True, freshness, NOW_MS, here)


class Skeleton(HTMLParser):
    """Elements and attribute names in order, links apart, and all text."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.shape: list[object] = []
        self.links: list[str] = []
        self.text = ""
        self.values: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.shape.append((tag, [name for name, _ in attrs]))
        self.links += [value or "" for name, value in attrs if name in {"href", "src", "action"}]
        self.values += [value or "" for _, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        self.shape.append(f"/{tag}")

    def handle_data(self, data: str) -> None:
        self.text += data

    def handle_comment(self, data: str) -> None:
        self.shape.append("comment")

    def unknown_decl(self, data: str) -> None:
        self.shape.append("declaration")


def raw_record(text: str) -> ChangelogRecord:
    """A state with ``text`` in every place that can contain text."""
    state: dict[str, Any] = {
        "state_version": 1,
        "status": text,
        "chain": [text],
        "fingerprints": [text, text],
        "digest": text,
        "turns": 3,
        "first_url": text,
        "snapshot_at_ms": NOW_MS,
        "source_partition": text,
        "source_offset": text,
        "enriched_at": "2026-01-02T03:04:05.678+00:00",
        "prospect": {
            "nombre": text,
            "email": text,
            "telefono": text,
            "ocupacion": text,
            "nivel_interes": 7.5,
            "momento_optimo": text,
            "arquetipo": text,
            "objeciones": [text.replace(",", "")],
        },
        "extraction": {
            "extractor": text,
            "instead_of": text,
            "model": text,
            "prompt_version": text,
            "dropped_fields": [text],
            "signals": [{"name": text, "turn": text, "start": text, "end": text}],
            "input_tokens": text,
            "output_tokens": text,
            "cache_read_tokens": text,
            "latency_ms": 1.5,
            "cost_usd": 0.1,
        },
        "dead": {"reason": text, "partition": text, "offset": text, "attempts": text},
        "counters": {"snapshots": text, "calls": text},
        "last_seen_ms": NOW_MS,
    }
    return ChangelogRecord(0, 0, NOW_MS, session_key("acme", text), json.dumps(state).encode())


def render_both(model: ReadModel, record: ChangelogRecord, text: str, *, with_text: bool = True) -> tuple[str, str]:
    model.apply([record])
    queries, pages = SessionQueries(model.path), SessionPages(PAGES)
    session_filter = SessionFilter(text, text, text, text, text, text)
    listed = queries.page(SessionFilter(), None, 10)
    row = queries.session(record.key)
    assert row is not None
    messages = [("user", text), ("assistant", text)]
    signals = [{"name": text, "turn": 0, "start": 1, "end": 2}]
    return (
        pages.sessions(
            viewing(here=f"/sessions?q={text}"), listed, queries.facets(), session_filter, None, "1", whole=True
        ),
        pages.session(
            viewing(),
            dict(row),
            "topic",
            conversation=ShownConversation(shown_turns(messages, signals) if with_text else (), problem="expired"),
            others=[row],
            database={"updated_at": text, "json": json.dumps({text: text}).encode()},
            can_erase=True,
        ),
    )


def render_letters(folder: Path, text: str) -> tuple[str, str]:
    """The pages of a dead letter with ``text`` in key, value and headers."""
    model = ReadModel(folder, "topic", {"dlq": LetterWriter(1000, 24)})
    raw = text.encode("utf-8", "replace")
    names = ("nexus-id", "nexus-reason", "nexus-error", "nexus-error-class", "nexus-origin-topic")
    headers = ((text, raw), *((name, raw) for name in names))
    model.apply_beside("dlq", [TopicRecord(0, 0, NOW_MS, raw, raw, headers)])
    activity, pages = ActivityQueries(model.path), PAGES
    rows = activity.letters(LetterFilter(), 10)
    actions = [{"at": text, "who": text, "role": "operator", "action": text, "reason": text}]
    wanted = LetterFilter(reason=text)
    content = {"key": text, "headers": [(text, text)], "value": text, "size_bytes": 5, "is_cut": True}
    listed = pages.letters(viewing(), activity.letter_groups(), rows, wanted, None, actions, text)
    one = pages.letter(viewing(), rows[0], content, None, ("acme", text))
    model.close()
    return listed, one


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    """The pages with a harmless word in every place."""
    folder = tmp_path_factory.mktemp("plain")
    model = ReadModel(folder / "sessions", "topic")
    pages = (*render_both(model, raw_record("plain"), "plain"), *render_letters(folder / "letters", "plain"))
    model.close()
    return pages


@pytest.mark.parametrize("payload", XSS_PAYLOADS)
def test_untrusted_text_is_escaped(model: ReadModel, tmp_path: Path, plain: tuple[str, ...], payload: str) -> None:
    hostile = (*render_both(model, raw_record(payload), payload), *render_letters(tmp_path / "b", payload))
    for hostile_html, plain_html in zip(hostile, plain, strict=True):
        skeleton = Skeleton(hostile_html)
        assert skeleton.shape == Skeleton(plain_html).shape
        assert all(re.match(r"/(?!/)|#", link) for link in skeleton.links), skeleton.links
        assert visible(payload) in skeleton.text


def test_there_are_enough_payloads() -> None:
    assert len(set(XSS_PAYLOADS)) >= 50


def test_session_page_shows_the_record_its_evidence_and_where_it_is(model: ReadModel, make_record: MakeRecord) -> None:
    record = make_record(
        "s-1",
        7,
        partition=2,
        nombre="Carlos",
        email="carlos@example.com",
        nivel_interes=7.5,
        momento_optimo="caliente",
        objeciones=("price",),
        arquetipo="lider_hogar",
        fingerprints=("fp-1",),
    )
    text = Skeleton(render_both(model, record, "", with_text=False)[1]).text
    for expected in (
        "Carlos",
        "carlos@example.com",
        "7.5 / 10",
        "caliente",
        "price",
        "lider hogar",
        "fp-1",
        "partition 2, offset 7",
        "14–20",
        '"session_id": "s-1"',
        "offline-rules-v1",
        "caught up 1 s ago",
    ):
        assert expected in text, expected


@pytest.mark.parametrize(
    ("latency_ms", "settled"), [(1500.0, "03:04:04"), (0.4, "03:04:05"), (0.0, "03:04:05"), (1e300, "00:00:00")]
)
def test_timeline_always_says_when_a_chat_had_settled(
    model: ReadModel, make_record: MakeRecord, latency_ms: float, settled: str
) -> None:
    extraction = ExtractionFacts(extractor="claude", latency_ms=latency_ms)
    record = make_record("s-1", 7, nombre="Carlos", extraction=extraction, enqueued_at="2026-01-02T03:03:50.000+00:00")
    html = render_both(model, record, "", with_text=False)[1]
    steps = re.findall(r'<li data-step="(\w+)">(.*?)</li>', html, re.DOTALL)
    order = [name for name, _ in steps]
    assert sorted(order) == ["extracted", "received", "row", "settled"]
    if latency_ms < 1e300:
        assert order == ["received", "settled", "extracted", "row"]
    assert f" {settled}</time>" in dict(steps)["settled"]
    assert "estimated" in dict(steps)["settled"]


def test_dead_session_says_why(model: ReadModel, make_record: MakeRecord) -> None:
    record = make_record(
        "s", 1, status="dead", dead={"digest": "x", "partition": 4, "offset": 44, "reason": "model_refused"}
    )
    text = Skeleton(render_both(model, record, "")[1]).text
    assert "model_refused" in text
    assert "partition 4, offset 44" in text


@pytest.mark.parametrize("has_base", [True, False])
def test_a_record_of_the_rules_says_why_the_model_did_not_read(
    model: ReadModel, make_record: MakeRecord, has_base: bool
) -> None:
    record = make_record(
        "s",
        1,
        status="enriched",
        dead={"digest": "x", "partition": 4, "offset": 44, "reason": "model_refused", "is_read": True},
        base={"prospect": {}, "signals": []} if has_base else None,
        extraction={"extractor": "offline-rules-v1", "instead_of": "model_refused"},
        enriched_at="2026-01-01T00:00:00.000+00:00",
    )
    html = render_both(model, record, "")[1]
    assert dict(re.findall(r'<li data-step="(\w+)">(.*?)</li>', html, re.DOTALL))["extracted"].count("refused") == 1
    text = Skeleton(html).text
    assert text.count("Claude refused to answer") == 2
    # A model has answered since: there is nothing to ask again.
    assert ("Redrive the letter" in text) is has_base


@pytest.mark.parametrize(
    "value", [b"", b"not json", b"\xff\x00", b"[]", b'{"prospect": 3, "extraction": {"signals": [1, {}]}}']
)
def test_unreadable_state_still_has_a_page(model: ReadModel, value: bytes) -> None:
    _, html = render_both(model, ChangelogRecord(0, 3, NOW_MS, b"k", value), "")
    assert "unreadable" in Skeleton(html).text


def test_a_newer_state_is_marked(model: ReadModel) -> None:
    value = json.dumps({"state_version": KNOWN_STATE_VERSION + 1, "status": "enriched"}).encode()
    _, html = render_both(model, ChangelogRecord(0, 3, NOW_MS, b"k", value), "")
    assert f"State version {KNOWN_STATE_VERSION + 1} is newer" in Skeleton(html).text


def test_the_known_state_version_is_the_written_one() -> None:
    assert KNOWN_STATE_VERSION == STATE_VERSION


@pytest.mark.parametrize(
    ("freshness", "expected"),
    [
        (Freshness((), "starting"), "Not updating"),
        (Freshness((PartitionProgress(0, 2, 3, 0),), None), "1 record behind"),
        (Freshness((PartitionProgress(0, 0, 9000, 0), PartitionProgress(1, 0, 1, 0)), None), "9,001 records behind"),
        (Freshness((PartitionProgress(0, 2, 2, NOW_MS - 125_000),), "broker_unreachable"), "caught up 2 min ago"),
        (FRESH, "Live"),
    ],
)
def test_every_page_says_how_fresh_it_is(freshness: Freshness, expected: str) -> None:
    html = PAGES.error(viewing(freshness=freshness), 404)
    assert expected in Skeleton(html).text


@pytest.mark.parametrize(
    ("passed_ms", "expected"),
    [(-5000, "just now"), (999, "just now"), (1000, "1 s ago"), (59_999, "59 s ago"), (60_000, "1 min ago"),
     (3_600_000, "1 h ago"), (86_400_000 * 3, "3 d ago")],
)  # fmt: skip
def test_ago_uses_the_largest_unit(passed_ms: int, expected: str) -> None:
    assert ago(NOW_MS - passed_ms, NOW_MS, translator("en")) == expected


def test_times_beyond_the_calendar_are_bounded() -> None:
    assert iso(2**63 - 1).startswith("9999-12-31")


def test_json_too_deep_or_odd_is_shown_as_it_is() -> None:
    assert pretty_json(b"[" * 5000) == "[" * 5000
    assert pretty_json(b"\xff") == "\\xff"
    assert pretty_json('{"a":"ñ"}'.encode()) == '{\n  "a": "ñ"\n}'


def test_every_text_is_used_and_every_used_text_exists() -> None:
    templates = "".join(path.read_text() for path in (PACKAGE / "templates").glob("*.html"))
    code = "\n".join(path.read_text() for path in PACKAGE.glob("*.py") if path.name != "texts.py")
    used = set(re.findall(r"\bt\(\"([^\"]+)\"[),]", templates + code))
    assert used <= TEXTS["en"].keys(), used - TEXTS["en"].keys()
    # Keys made from a kind and a name: error.404, field.email, status.dead …
    built = set(re.findall(r"\bt\(f?\"([a-z_]+\.)(?:\" ~|[a-z_]*{)", templates + code))
    used |= set(re.findall(r"\"([a-z_]+\.[a-z_0-9]+)\"", code))
    unused = {key for key in TEXTS["en"] if key not in used and not key.startswith(tuple(built))}
    assert unused == set()


@pytest.mark.parametrize(
    ("prefix", "names"),
    [
        ("reason", list(Reason)),
        ("alert", list(AlertKind)),
        ("state", [*get_args(ProcessState), "none", "silent", "failed"]),
        ("letter", STATES),
        ("role", ROLES),
        ("status", STATUSES),
        ("conversation", [*(absent.name.lower() for absent in Absent), "none", "hidden", "changed"]),
        ("letter_content", [*(absent.name.lower() for absent in Absent), "hidden"]),
        ("error", [400, 403, 404, 413, 421, 429, 500, 503]),
    ],
)
def test_every_value_has_a_text(prefix: str, names: Sequence[object]) -> None:
    for name in names:
        assert f"{prefix}.{name}" in TEXTS["en"]


def test_languages_have_the_same_texts_and_placeholders() -> None:
    for texts in TEXTS.values():
        assert texts.keys() == TEXTS["en"].keys()
        for key, text in texts.items():
            assert set(re.findall(r"{(\w+)}", text)) == set(re.findall(r"{(\w+)}", TEXTS["en"][key])), key


def test_spanish_differs_where_words_do() -> None:
    same = {key for key, text in TEXTS["en"].items() if TEXTS["es"][key] == text}
    # Names, units and words that both languages have.
    assert len(same) < 40, sorted(same)


@pytest.mark.parametrize("language", LANGUAGES)
def test_pages_render_in_every_language(model: ReadModel, make_record: MakeRecord, language: str) -> None:
    model.apply([make_record("s-1", 1, nombre="Carlos")])
    queries, pages = SessionQueries(model.path), SessionPages(PAGES)
    reader = viewing(language=language)
    page = queries.page(SessionFilter(), None, 10)
    html = pages.sessions(reader, page, queries.facets(), SessionFilter(), None, "1", whole=True)
    assert f'<html lang="{language}">' in html
    assert TEXTS[language]["sessions.search_hint"] in html


def test_viewer_sees_no_personal_data_anywhere(model: ReadModel, make_record: MakeRecord) -> None:
    record = make_record(
        "s-1",
        7,
        nombre="Carlos Ruiz",
        email="carlos@example.com",
        telefono="+573005550102",
        ocupacion="contador",
        fingerprints=("fp-secret-1",),
        first_url="https://www.example.com/?name=Carlos",
    )
    model.apply([record])
    queries, pages = SessionQueries(model.path), SessionPages(PAGES)
    row = queries.session(record.key)
    assert row is not None
    reader = viewing(VIEWER)
    page = queries.page(SessionFilter(), None, 10)
    html = pages.sessions(reader, page, queries.facets(), SessionFilter(), None, "1", whole=True)
    html += pages.session(
        reader,
        dict(row),
        "topic",
        others=[row],
        conversation=ShownConversation(problem="hidden"),
        database={"problem": "hidden"},
    )
    for secret in ("Carlos", "Ruiz", "carlos@", "5550102", "contador", "fp-secret", "?name="):
        assert secret not in html, secret
    assert "C••• R•••" in html
    assert "www.example.com" in html


def test_a_list_that_was_cut_short_says_so_instead_of_no_match() -> None:
    pages = SessionPages(PAGES)
    page = Page((), Cursor(NOW_MS, b"s-1"), is_cut_short=True)
    html = pages.sessions(viewing(), page, {}, SessionFilter("zq"), None, "1", whole=True)
    assert translator("en")("sessions.no_match") not in html
    assert "Searched back to 2025-10-09T08:55:00Z so far" in html
    assert 'rel="next"' in html
