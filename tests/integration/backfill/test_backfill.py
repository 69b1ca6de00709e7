"""``nexus backfill`` against our stand-in: the requests, the result of each answer, and the enricher's records."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from nexus_stream.contracts.headers import ANSWER_HEADER
from nexus_stream.contracts.session_command import CommandKind, SessionCommand
from nexus_stream.errors import ModelRefusedError, Reason
from nexus_stream.extraction.claude.prompt import load_prompt
from nexus_stream.extraction.rules.extractor import OfflineRules
from nexus_stream.testing.extractor import ScriptedExtractor
from tests.integration.backfill.conftest import Desk, body

NAMES = ["Carlos Ruiz", "Ana Gil", "Luis Mora", "Sara Vega", "Juan Paz", "Eva Rey", "Iker Sanz"]


def refusing() -> ScriptedExtractor:
    """A live extractor that must not be called."""

    def fail(_: object) -> None:
        raise ModelRefusedError("called live", reason=Reason.INTERNAL_ERROR)

    return ScriptedExtractor(fail)


def chats() -> list[dict]:
    return [body(f"s-{number}", f"me llamo {name}", fingerprint=f"fp-{number}") for number, name in enumerate(NAMES)]


async def test_a_file_becomes_enriched_records_at_half_price_and_no_state_is_left(desk: Desk):
    path = desk.write(*chats())
    ended = await desk.backfill(path, "--yes")
    assert ended.code == 0, ended
    assert "7 calls to claude-haiku-5-5" in ended.output
    assert "7  sent with Claude's answer" in ended.output
    assert len(desk.stand_in.created) == 2
    assert sorted(desk.stand_in.deleted) == sorted(desk.stand_in.created)
    line = await desk.enrich(refusing())
    enriched = line.enriched()
    assert {key: one["prospect"]["nombre"] for key, one in enriched.items()} == {
        f"s-{number}": name for number, name in enumerate(NAMES)
    }
    one = enriched["s-0"]
    # The same checks run here: the value that the stand-in invented was dropped.
    assert one["prospect"]["email"] is None
    assert "email" in one["extraction"]["dropped_fields"]
    assert one["extraction"]["extractor"] == "claude"
    assert one["extraction"]["model"] == "claude-haiku-5-5"
    assert one["extraction"]["prompt_version"] == load_prompt().version
    assert one["extraction"]["cached"] is False
    # 1,000 in, 200 out, 2,000 from the cache at 0.10, 0.50 and 0.01 USD a million, halved.
    assert one["extraction"]["cost_usd"] == pytest.approx((1000 * 0.1 + 200 * 0.5 + 2000 * 0.01) / 1e6 / 2)
    assert one["fingerprint"] == "fp-0"
    left = [one.name for one in desk.state.rglob("*") if one.is_file()]
    assert sorted(left) == ["budget.json", "last.json", "lock"]
    assert "Carlos" not in "".join(one.read_text() for one in desk.state.rglob("*.json"))


async def test_the_request_equals_the_live_one_and_its_id_reveals_no_session(desk: Desk):
    await desk.backfill(desk.write(body("maria@example.com", "me llamo Maria")), "--yes")
    ((request,),) = desk.stand_in.created.values()
    assert "maria" not in request["custom_id"].lower()
    params = request["params"]
    assert params["system"][0]["cache_control"] == {"type": "ephemeral"}
    assert params["system"][0]["text"] == load_prompt().system
    assert len(params["messages"]) == 1
    assert params["output_config"]["effort"] == "low"
    assert not {"temperature", "top_p", "top_k", "stream"} & params.keys()


async def test_only_the_newest_snapshot_of_a_session_is_read(desk: Desk):
    path = desk.write(
        body("s-1", "me llamo Carlos", "hola", "quiero empezar"),
        body("s-1", "me llamo Carlos", fingerprint="fp-early"),
        body("s-2", "hola"),
        body("s-2", "hola", "¿sí?", "me llamo Ana"),
    )
    ended = await desk.backfill(path, "--yes")
    assert "4 snapshots of 2 sessions" in ended.output
    assert "2 calls" in ended.output
    enriched = (await desk.enrich(refusing())).enriched()
    assert enriched["s-1"]["conversation"]["turns"] == 3
    assert enriched["s-1"]["fingerprint"] == "fp-early"
    assert enriched["s-2"]["prospect"]["nombre"] == "Ana"


async def test_each_failure_is_retried_or_becomes_a_dead_letter_with_its_reason(desk: Desk):
    words = ["bien", "veneno", "eterno", "torcido", "torcidouna", "saturado", "saturadouna"]
    words += ["caduco", "caducouna", "rechazo", "perdidouna"]
    path = desk.write(*(body(word, f"{word} me llamo Carlos") for word in words))
    ended = await desk.backfill(path, "--yes")
    assert ended.code == 0, ended
    assert "2  failed in two batches; sent without an answer: the enricher calls Claude live" in ended.output
    assert desk.stand_in.open_batches == []
    live = ScriptedExtractor()
    line = await desk.enrich(live)
    assert line.reasons() == {
        "veneno": "model_refused",
        "eterno": "model_truncated",
        "torcido": "model_answer_invalid",
        "rechazo": "model_refused",
    }
    assert set(line.enriched()) == set(words) - set(line.reasons())
    assert sorted(call[0].content.split()[0] for call in live.calls) == ["caduco", "saturado"]
    # Both answers were paid, and both are counted.
    assert line.enriched()["torcidouna"]["extraction"]["input_tokens"] == 2000
    assert desk.stand_in.paid["torcidouna me llamo Carlos"] == 2
    assert desk.stand_in.paid["bien me llamo Carlos"] == 1
    # The second request has the problems of the first answer.
    asked_again = [
        one["params"]["messages"][0]["content"]
        for requests in desk.stand_in.created.values()
        for one in requests
        if isinstance(one["params"]["messages"][0]["content"], list)
    ]
    assert all("not accepted" in content[1]["text"] for content in asked_again)
    assert len(asked_again) == 2


async def test_a_dead_letter_has_no_answer_header(desk: Desk):
    await desk.backfill(desk.write(body("s-1", "veneno me llamo Carlos"), body("s-2", "me llamo Ana")), "--yes")
    line = await desk.enrich(refusing())
    (letter,) = line.broker.records(desk.settings.dead_letter_topic)
    assert ANSWER_HEADER not in dict(letter.headers)


async def test_results_that_break_off_are_read_again(desk: Desk):
    desk.stand_in.broken_results = 2
    ended = await desk.backfill(desk.write(*chats()), "--yes")
    assert ended.code == 0, ended
    assert len((await desk.enrich(refusing())).enriched()) == len(NAMES)
    assert set(desk.stand_in.paid.values()) == {1}


async def test_a_batch_with_an_unknown_creation_is_searched_and_not_created_again(desk: Desk):
    desk.stand_in.lost_answers = 1
    foreign = desk.stand_in.add_foreign(5)
    ended = await desk.backfill(desk.write(*chats()), "--yes")
    assert ended.code == 0, ended
    assert "checking whether it exists" in ended.errors
    assert set(desk.stand_in.paid.values()) - {5} == {1}
    assert desk.stand_in.open_batches == [foreign]
    assert len((await desk.enrich(refusing())).enriched()) == len(NAMES)


async def test_a_limited_or_overloaded_api_means_wait(desk: Desk):
    desk.stand_in.refused_creations = [(429, "rate_limit_error"), (529, "overloaded_error")]
    ended = await desk.backfill(desk.write(*chats()), "--yes")
    assert ended.code == 0, ended
    assert set(desk.stand_in.paid.values()) == {1}


async def test_a_batch_that_is_rejected_completely_stops_the_run_without_dead_letters(desk: Desk):
    desk.stand_in.rejects_all = True
    path = desk.write(*chats())
    ended = await desk.backfill(path, "--yes")
    assert ended.code == 2
    assert "no conversation is the cause" in ended.errors
    assert await desk.ingested() == []
    desk.stand_in.rejects_all = False
    ended = await desk.backfill(path, "--yes")
    assert ended.code == 0, ended
    assert len((await desk.enrich(refusing())).enriched()) == len(NAMES)
    assert desk.stand_in.open_batches == []


async def test_a_refused_creation_stops_and_the_same_command_continues(desk: Desk):
    path = desk.write(*chats())
    desk.stand_in.refused_creations = [(401, "authentication_error")]
    ended = await desk.backfill(path, "--yes")
    assert ended.code == 2
    assert "ANTHROPIC_API_KEY" in ended.errors
    ended = await desk.backfill(path, "--yes")
    assert ended.code == 0, ended
    assert "Resuming" in ended.output
    assert set(desk.stand_in.paid.values()) == {1}


async def test_a_dry_run_counts_and_estimates_and_leaves_no_state(desk: Desk):
    path = desk.write(*chats(), "{", body("s-9", "me llamo Ana", metadata={"consent": False}), body("s-8", " "))
    ended = await desk.backfill(path, "--dry-run")
    assert ended.code == 1
    assert "7 calls" in ended.output
    assert "1 need no call" in ended.output
    assert "line 8: not_json" in ended.output
    assert "line 10: no_text" in ended.output
    assert "USD at half the list price" in ended.output
    assert desk.stand_in.created == {}
    assert await desk.ingested() == []
    assert not desk.state.exists() or not list(desk.state.rglob("*.sqlite3"))


async def test_a_dry_run_of_a_file_needs_no_key_and_no_broker(desk: Desk):
    path = desk.write(*chats())
    desk.environ |= {"ANTHROPIC_API_KEY": "", "NEXUS_KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1"}
    ended = await desk.backfill(path, "--dry-run")
    assert ended.code == 0, ended
    assert "7 calls" in ended.output
    assert "known sessions are counted too" in ended.output
    # Reading the topic needs the broker.
    ended = await desk.backfill("--from-topic", "--dry-run")
    assert ended.code == 1
    assert "127.0.0.1:1" in ended.errors
    assert "to continue" not in ended.errors
    ended = await desk.backfill(path, "--yes")
    assert ended.code == 2
    assert "ANTHROPIC_API_KEY" in ended.errors


async def test_without_a_terminal_the_yes_option_is_needed(desk: Desk):
    ended = await desk.backfill(desk.write(*chats()))
    assert ended.code == 2
    assert "--yes" in ended.errors


async def test_standard_input_can_be_the_file(desk: Desk):
    ended = await desk.backfill("-", "--yes", stdin=json.dumps(body("s-1", "me llamo Carlos")).encode())
    assert ended.code == 0, ended
    assert (await desk.enrich(refusing())).enriched()["s-1"]["prospect"]["nombre"] == "Carlos"


async def test_another_input_under_the_name_of_an_unfinished_run_is_refused(desk: Desk):
    first = json.dumps(body("s-1", "me llamo Carlos")).encode()
    other = json.dumps(body("s-2", "me llamo Rosa")).encode()
    desk.stand_in.refused_creations = [(401, "authentication_error")]
    assert (await desk.backfill("-", "--yes", stdin=first)).code == 2
    for words, stdin in ((("-", "--yes"), other), (("-", "--yes"), b""), (("-", "--yes", "--as-of", "2h"), first)):
        ended = await desk.backfill(*words, stdin=stdin)
        assert ended.code == 2
        assert "stdin" in ended.errors
        assert "another input" in ended.errors
        assert "--name" in ended.errors
    assert desk.stand_in.created == {}
    ended = await desk.backfill("-", "--yes", "--name", "other", stdin=other)
    assert ended.code == 0, ended
    ended = await desk.backfill("-", "--yes", stdin=first)
    assert ended.code == 0, ended
    assert "Resuming stdin" in ended.output
    assert set((await desk.enrich(refusing())).enriched()) == {"s-1", "s-2"}


async def test_another_since_is_another_input(desk: Desk):
    await desk.post(*chats()[:2])
    await desk.commit()
    desk.stand_in.refused_creations = [(401, "authentication_error")]
    assert (await desk.backfill("--since", "2h", "--yes")).code == 2
    ended = await desk.backfill("--since", "1h", "--yes")
    assert ended.code == 2
    assert "--since" in ended.errors
    ended = await desk.backfill("--since", "2h", "--yes")
    assert ended.code == 0, ended
    assert "Resuming topic" in ended.output


async def test_refused_consent_is_never_sent_to_claude(desk: Desk):
    path = desk.write(body("s-1", "me llamo Carlos", metadata={"consent": False}))
    ended = await desk.backfill(path, "--yes")
    assert ended.code == 0, ended
    assert desk.stand_in.created == {}
    assert (await desk.enrich(refusing())).enriched()["s-1"]["extraction"]["extractor"] == "none"


async def test_smaller_batches_keep_the_budget(desk: Desk):
    # One request reserves about 0.0005 USD, and costs 0.00011.
    desk.environ["NEXUS_BUDGET_USD_PER_DAY"] = "0.0013"
    desk.environ["NEXUS_KAFKA_MAX_POLL_INTERVAL_SECONDS"] = "86400"
    ended = await desk.backfill(desk.write(*chats()[:4]), "--yes")
    assert ended.code == 0, ended
    assert len(desk.stand_in.created) > 1
    assert set(desk.stand_in.paid.values()) == {1}


async def test_a_conversation_over_the_cap_becomes_a_dead_letter_and_the_others_are_read(desk: Desk):
    desk.environ["NEXUS_BUDGET_USD_PER_HOUR"] = "0.0012"
    desk.environ["NEXUS_BUDGET_FALLBACK"] = "offline"
    longest = body("s-x", *(["me llamo Rosa " + "y ".join(["me gusta"] * 700), "hola"] * 8)[:-1])
    path = desk.write(chats()[0], longest, *chats()[1:3])
    ended = await desk.backfill(path, "--dry-run")
    assert "1 of them could cost more than a whole cap" in ended.output
    ended = await desk.backfill(path, "--yes")
    assert ended.code == 0, ended
    assert "sent to become a dead letter: over_budget" in ended.output
    line = await desk.enrich(refusing())
    assert set(line.enriched()) == {"s-0", "s-1", "s-2"}
    assert line.reasons() == {"s-x": "over_budget"}
    # With a cap below an ordinary request, all conversations would become dead letters.
    desk.environ["NEXUS_BUDGET_USD_PER_HOUR"] = "0.0001"
    ended = await desk.backfill(path, "--yes")
    assert ended.code == 2
    assert "NEXUS_BUDGET_USD_PER_HOUR" in ended.errors


# The topic as input


async def test_conversations_that_only_the_rules_have_read_are_read_by_claude(desk: Desk):
    await desk.post(*chats(), body("s-x", "me llamo Rosa", "hola", "quiero empezar"))
    rules = await desk.enrich(OfflineRules("CO"))
    assert {one["extraction"]["extractor"] for one in rules.enriched().values()} == {"offline-rules-v1"}
    await desk.publish_table(rules)
    ended = await desk.backfill("--from-topic", "--yes")
    assert ended.code == 0, ended
    assert "8 calls" in ended.output
    seen = {(one.partition, one.offset) for one in rules.read}
    await rules.feed([one for one in await desk.ingested() if (one.partition, one.offset) not in seen])
    enriched = rules.enriched()
    assert {one["extraction"]["extractor"] for one in enriched.values()} == {"claude"}
    assert enriched["s-x"]["conversation"]["turns"] == 3
    assert rules.outcomes == ["Enriched"] * 16
    # Reading the topic again changes nothing: the answer and its record are known.
    await rules.feed(await desk.ingested())
    assert sorted(rules.outcomes[16:]) == ["Duplicate"] * 8 + ["Reemitted"] * 8
    # After one backfill the conversations are known.
    await desk.publish_table(rules)
    ended = await desk.backfill("--from-topic", "--yes")
    assert ended.code == 0, ended
    assert "0 calls" in ended.output
    assert "8 skipped: already known" in ended.output
    assert len(desk.stand_in.created) == 2


async def test_unread_records_are_left_to_the_enrichers(desk: Desk):
    await desk.post(*chats())
    ended = await desk.backfill("--from-topic", "--yes")
    assert ended.code == 0, ended
    assert "7 records that no enricher has finished are left to the enrichers" in ended.output
    assert desk.stand_in.created == {}


async def test_since_leaves_out_older_records(desk: Desk):
    await desk.post(*chats())
    await desk.commit()
    assert "7 calls" in (await desk.backfill("--from-topic", "--dry-run")).output
    assert "7 calls" in (await desk.backfill("--since", "1h", "--dry-run")).output
    assert "0 calls" in (await desk.backfill("--since", "2999-01-01", "--dry-run")).output


async def test_an_erased_person_is_not_sent_to_claude(desk: Desk):
    await desk.post(*chats())
    command = SessionCommand(
        command=CommandKind.ERASE, session_id="s-0", request_id="request-1", requested_at=datetime.now(UTC)
    )
    await desk.sender.send(desk.settings.ingestion_topic, command.key, command.value, headers=command.headers)
    line = await desk.enrich(OfflineRules("CO"))
    await desk.publish_table(line)
    ended = await desk.backfill("--from-topic", "--yes")
    assert ended.code == 0, ended
    assert "me llamo Carlos Ruiz" not in desk.stand_in.paid
    # A file that still has the conversation does not send it either.
    ended = await desk.backfill(desk.write(*chats()), "--yes")
    assert "1 skipped: erased" in ended.output
    assert "me llamo Carlos Ruiz" not in desk.stand_in.paid
    again = await desk.enrich(OfflineRules("CO"))
    assert again.table.state(b"s-0").status == "erased"
