"""``nexus backfill --again``: what it reads, shows, sends and pays."""

from __future__ import annotations

import json
import signal
from datetime import UTC, datetime

from nexus_stream.backfill.estimate import Estimator, batch_price
from nexus_stream.contracts.headers import AGAIN_HEADER
from nexus_stream.contracts.session_command import CommandKind, SessionCommand
from nexus_stream.extraction.claude.prices import load_prices, price_of
from nexus_stream.extraction.claude.prompt import load_prompt, turns_as_json
from nexus_stream.extraction.extractor import Turn
from nexus_stream.extraction.rules.extractor import OfflineRules
from nexus_stream.testing.extractor import ScriptedExtractor
from tests.integration.backfill.conftest import Desk, Line, body
from tests.integration.backfill.killing import BATCH_REQUESTS

NAMES = ["Ana Ruiz", "Luz Mora", "Eva Paz", "Sol Rey"]


def chats() -> list[dict]:
    return [body(f"s-{number}", f"me llamo {name}") for number, name in enumerate(NAMES)]


async def take(desk: Desk, line: Line) -> None:
    """Let an enricher read what is new on the topic, and publish its table."""
    seen = {(one.partition, one.offset) for one in line.read}
    await line.feed([one for one in await desk.ingested() if (one.partition, one.offset) not in seen])
    await desk.publish_table(line)


async def test_records_of_another_model_are_read_again_once_and_shown_before(desk: Desk):
    erased = SessionCommand(
        command=CommandKind.ERASE, session_id="s-3", request_id="request-1", requested_at=datetime.now(UTC)
    )
    refused = body("s-no", "me llamo Noa Gil", metadata={"consent": False})
    # The rules find the phone. The stand-in's answers have a name only.
    phone = body("s-phone", "me llamo Iris Vega y mi celular es 300 555 0102")
    await desk.post(*chats(), refused, phone, body("s-veneno", "me llamo Rita Sanz, veneno"))
    line = await desk.enrich(OfflineRules("CO"))
    await desk.sender.send(desk.settings.ingestion_topic, erased.key, erased.value, headers=erased.headers)
    await take(desk, line)
    before = await desk.ingested()

    # Declined: nothing is on the topic, and nothing is paid again.
    code, shown = await desk.on_a_terminal(["--again"], b"y\nn\n")
    assert code == 1, shown
    assert "4 records would be replaced" in shown
    assert await desk.ingested() == before
    assert len(desk.stand_in.created) == 1

    ended = await desk.backfill("--again", "--yes")
    assert ended.code == 0, ended
    rows = {words[0]: words[1:] for words in map(str.split, ended.output.splitlines()) if len(words) == 5}
    # gain, lose, change, equal
    assert rows["telefono"] == ["0", "1", "0", "3"]
    assert rows["nombre"] == ["0", "0", "0", "4"]
    assert "4  sent with Claude's answer" in ended.output
    assert "1  not answered; the record stays as it is" in ended.output
    assert len(desk.stand_in.created) == 1
    assert set(desk.stand_in.paid.values()) == {1}
    assert not {"Noa Gil", "Sol Rey"} & {" ".join(words.split()[2:4]) for words in desk.stand_in.paid}
    assert not any(name in ended.output for name in NAMES)

    await take(desk, line)
    enriched = line.enriched()
    made = {key: one["extraction"]["extractor"] for key, one in enriched.items() if "extraction" in one}
    assert made == {
        **{f"s-{number}": "claude" for number in range(3)},
        "s-phone": "claude",
        "s-no": "none",
        "s-veneno": "offline-rules-v1",
    }
    # What was shown is what the enricher did.
    assert (enriched["s-phone"]["prospect"]["nombre"], enriched["s-phone"]["prospect"]["telefono"]) == (
        "Iris Vega",
        None,
    )
    assert line.reasons() == {}

    # All is current, also what Claude refused.
    ended = await desk.backfill("--again", "--yes")
    assert ended.code == 0, ended
    assert "0 calls" in ended.output
    assert len(desk.stand_in.created) == 1
    last = desk.state / "again" / "last.json"
    assert last.stat().st_mode & 0o077 == 0
    assert len(json.loads(last.read_text())["left_over"]) == 1


async def test_a_second_run_before_the_enrichers_have_read_the_answers_pays_nothing(desk: Desk):
    await desk.post(*chats())
    line = await desk.enrich(ScriptedExtractor())
    await take(desk, line)
    for _ in range(2):
        ended = await desk.backfill("--again", "--yes")
        assert ended.code == 0, ended
    assert "0 calls" in ended.output
    assert "4  skipped: the record is current" in ended.output
    assert set(desk.stand_in.paid.values()) == {1}
    assert len([one for one in await desk.ingested() if AGAIN_HEADER in dict(one.headers)]) == 4


async def test_a_limit_ends_the_asking_and_the_next_run_continues(desk: Desk):
    await desk.post(*chats())
    line = await desk.enrich(ScriptedExtractor())
    await take(desk, line)
    price = batch_price(price_of(desk.settings.claude_model, load_prices(None)))
    estimator = Estimator(price, load_prompt(), desk.settings.claude_max_tokens)
    one_usd = estimator.of(turns_as_json([Turn("user", "me llamo Luz Mora")])).at_most_usd
    ended = await desk.backfill("--again", "--yes", "--at-most-usd", one_usd * 1.01)
    assert ended.code == 1, ended
    asked = sum(len(requests) for requests in desk.stand_in.created.values())
    assert asked == 1
    assert f"{4 - asked}  not asked: --at-most-usd" in ended.output
    await take(desk, line)
    ended = await desk.backfill("--again", "--yes")
    assert ended.code == 0, ended
    await take(desk, line)
    assert sum(len(requests) for requests in desk.stand_in.created.values()) == 4
    assert {one["extraction"]["model"] for one in line.enriched().values()} == {"claude-haiku-5-5"}
    again = [one for one in await desk.ingested() if AGAIN_HEADER in dict(one.headers)]
    assert len(again) == 4


async def test_an_answer_that_the_table_has_outgrown_is_neither_counted_nor_sent(desk: Desk):
    await desk.post(*chats())
    line = await desk.enrich(ScriptedExtractor())
    await take(desk, line)
    code, shown = await desk.on_a_terminal(["--again"], b"y\nn\n")
    assert (code, "4 records would be replaced" in shown) == (1, True), shown
    await desk.post(body("s-0", "me llamo Ana Ruiz", "Hola", "quiero empezar"))
    await take(desk, line)
    ended = await desk.backfill("--again", "--yes")
    assert ended.code == 0, ended
    assert "3 records would be replaced; in 3 of them no value changes" in ended.output
    assert len([one for one in await desk.ingested() if AGAIN_HEADER in dict(one.headers)]) == 3


async def test_after_many_kills_nothing_is_paid_twice_and_nothing_is_sent_before_the_report(desk: Desk):
    await desk.post(
        *(body(f"s-{number}", f"me llamo Ana {chr(65 + number)}ez") for number in range(BATCH_REQUESTS + 2))
    )
    line = await desk.enrich(ScriptedExtractor())
    await take(desk, line)
    before = await desk.ingested()
    for point in ("created", "half read", "settled", "deleted"):
        killed = await desk.backfill("--again", "--yes", dying=point)
        # A point that this run does not reach any more kills nothing.
        assert killed.code in {-signal.SIGKILL, 0}, killed
        assert killed.code == 0 or await desk.ingested() == before
    killed = await desk.backfill("--again", "--yes", dying="half sent")
    assert "7 records would be replaced" in killed.output or killed.code == 0
    ended = await desk.backfill("--again", "--yes")
    assert ended.code == 0, ended
    await take(desk, line)
    assert len(desk.stand_in.paid) == BATCH_REQUESTS + 2
    assert set(desk.stand_in.paid.values()) == {1}
    assert desk.stand_in.open_batches == []
    assert {one["extraction"]["model"] for one in line.enriched().values()} == {"claude-haiku-5-5"}
