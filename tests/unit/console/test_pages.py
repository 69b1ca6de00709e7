from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

import nexus_stream.console
from nexus_stream.console.pages import KNOWN_STATE_VERSION, Pages
from nexus_stream.console.queries import SessionFilter, SessionQueries
from nexus_stream.console.read_model import Freshness, PartitionProgress, ReadModel
from nexus_stream.console.rendering import ago, iso, make_environment, pretty_json, visible
from nexus_stream.console.session_row import ChangelogRecord
from nexus_stream.console.texts import ENGLISH, LANGUAGES, translator
from nexus_stream.contracts.session_key import session_key
from tables.sessions import STATE_VERSION

NOW_MS = 1_760_000_100_000
FRESH = Freshness((PartitionProgress(0, 5, 5, NOW_MS - 1500),), None)
PACKAGE = Path(nexus_stream.console.__file__).parent

MakeRecord = Callable[..., ChangelogRecord]

XSS_PAYLOADS = [
    "<script>alert(1)</script>",
    "<ScRiPt src=//example.com/x.js></sCrIpT>",
    "</title><script>alert(1)</script>",
    "</textarea><script>alert(1)</script>",
    "</pre><script>alert(1)</script>",
    "</code></a></td></table><h1>x</h1>",
    "<img src=x onerror=alert(1)>",
    "<svg onload=alert(1)>",
    "<svg><script>alert&#40;1&#41;</script>",
    "<body onload=alert(1)>",
    "<iframe src=javascript:alert(1)>",
    "<a href='javascript:alert(1)'>x</a>",
    "<math><mtext></p><style><img src=x onerror=alert(1)>",
    "<details open ontoggle=alert(1)>",
    "<meta http-equiv=refresh content='0;url=//example.com'>",
    "<base href=//example.com/>",
    "<link rel=stylesheet href=//example.com/x.css>",
    "<style>@import '//example.com/x.css'</style>",
    "<form action=//example.com><input name=q>",
    "<object data=//example.com/x>",
    "<template><script>alert(1)</script></template>",
    "<noscript><p title='</noscript><img src=x onerror=alert(1)>'>",
    "<!--<img src='--><img src=x onerror=alert(1)>'>",
    "<![CDATA[<script>alert(1)</script>]]>",
    '" onmouseover="alert(1)',
    "' onmouseover='alert(1)",
    '" autofocus onfocus=alert(1) x="',
    '"><script>alert(1)</script>',
    "'><script>alert(1)</script>",
    "`onmouseover=alert(1)`",
    "javascript:alert(1)",
    "data:text/html,<script>alert(1)</script>",
    "&lt;script&gt;alert(1)&lt;/script&gt;",
    "&#60;script&#62;alert(1)",
    "{{ 7 * 7 }}{% include 'base.html' %}",
    "{{ config.__class__.__mro__ }}",
    "${7*7}<%= 7*7 %>#{7*7}",
    "\u202e<script>\u202c",
    "\u2028<script>alert(1)</script>\u2029",
    "<scr\x00ipt>alert(1)</scr\x00ipt>",
    "%3Cscript%3Ealert(1)%3C/script%3E",
    "＜script＞alert(1)＜/script＞",
    "\ufeff<img/src=x/onerror=alert(1)>",
    "x" * 300 + "<b>",
]


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
    """A state with ``text`` wherever the table, or someone who writes to the topic, could put text."""
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


def render_both(model: ReadModel, record: ChangelogRecord, text: str) -> tuple[str, str]:
    model.apply([record])
    queries, pages = SessionQueries(model.path), Pages(make_environment())
    session_filter = SessionFilter(text, text, text)
    listed = queries.page(SessionFilter(), None, 10)
    row = queries.session(record.key)
    assert row is not None
    return (
        pages.sessions(listed, queries.counts(), session_filter, None, FRESH, NOW_MS),
        pages.session(dict(row), "/sessions/x/y", "topic", FRESH, NOW_MS),
    )


@pytest.mark.parametrize("payload", XSS_PAYLOADS)
def test_text_from_strangers_stays_text(model: ReadModel, tmp_path: Path, payload: str) -> None:
    other = ReadModel(tmp_path / "plain", "topic")
    plain = render_both(other, raw_record("plain"), "plain")
    other.close()
    hostile = render_both(model, raw_record(payload), payload)
    for hostile_html, plain_html in zip(hostile, plain, strict=True):
        skeleton = Skeleton(hostile_html)
        assert skeleton.shape == Skeleton(plain_html).shape
        assert all(re.match(r"/(?!/)|#", link) for link in skeleton.links), skeleton.links
        assert visible(payload) in skeleton.text


def test_there_are_enough_payloads() -> None:
    assert len(set(XSS_PAYLOADS)) >= 40


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
    text = Skeleton(render_both(model, record, "")[1]).text
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


def test_dead_session_says_why(model: ReadModel, make_record: MakeRecord) -> None:
    record = make_record(
        "s", 1, status="dead", dead={"digest": "x", "partition": 4, "offset": 44, "reason": "model_refused"}
    )
    text = Skeleton(render_both(model, record, "")[1]).text
    assert "model_refused" in text
    assert "partition 4, offset 44" in text


@pytest.mark.parametrize(
    "value", [b"", b"not json", b"\xff\x00", b"[]", b'{"prospect": 3, "extraction": {"signals": [1, {}]}}']
)
def test_unreadable_state_still_has_a_page(model: ReadModel, value: bytes) -> None:
    _, html = render_both(model, ChangelogRecord(0, 3, NOW_MS, b"k", value), "")
    assert "unreadable" in Skeleton(html).text


def test_newer_state_says_so(model: ReadModel) -> None:
    value = json.dumps({"state_version": KNOWN_STATE_VERSION + 1, "status": "enriched"}).encode()
    _, html = render_both(model, ChangelogRecord(0, 3, NOW_MS, b"k", value), "")
    assert f"State version {KNOWN_STATE_VERSION + 1} is newer" in Skeleton(html).text


def test_the_state_version_it_knows_is_the_one_that_is_written() -> None:
    assert KNOWN_STATE_VERSION == STATE_VERSION


@pytest.mark.parametrize(
    ("freshness", "expected"),
    [
        (Freshness((), "starting"), "Not following"),
        (Freshness((PartitionProgress(0, 2, 3, 0),), None), "1 record behind"),
        (Freshness((PartitionProgress(0, 0, 9000, 0), PartitionProgress(1, 0, 1, 0)), None), "9,001 records behind"),
        (Freshness((PartitionProgress(0, 2, 2, NOW_MS - 125_000),), "broker_unreachable"), "caught up 2 min ago"),
        (FRESH, "Live"),
    ],
)
def test_every_page_says_how_fresh_it_is(freshness: Freshness, expected: str) -> None:
    html = Pages(make_environment()).error(404, freshness, NOW_MS)
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
    code = "".join(path.read_text() for path in PACKAGE.glob("*.py") if path.name != "texts.py")
    used = set(re.findall(r"\bt\(\"([^\"]+)\"[),]", templates))
    assert used <= ENGLISH.keys(), used - ENGLISH.keys()
    literals = {
        node.value
        for node in ast.walk(ast.parse(code.replace("from __future__ import annotations", "")))
        if isinstance(node, ast.Constant)
    }
    # Keys put together from a kind and a name: error.404, field.email, status.dead …
    names = {str(literal) for literal in literals} | {f"{literal}_hint" for literal in literals}
    unused = {key for key in ENGLISH if key not in used | names and key.partition(".")[2] not in names}
    assert unused == set()


def test_languages_have_the_same_texts_and_placeholders() -> None:
    for texts in LANGUAGES.values():
        assert texts.keys() == ENGLISH.keys()
        for key, text in texts.items():
            assert set(re.findall(r"{(\w+)}", text)) == set(re.findall(r"{(\w+)}", ENGLISH[key])), key
