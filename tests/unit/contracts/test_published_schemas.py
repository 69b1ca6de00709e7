"""The files in contracts/ match the records, and old messages stay valid."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from nexus_stream.contracts.asyncapi import ASYNCAPI, asyncapi_document
from nexus_stream.contracts.command import command, differences, published_files
from nexus_stream.contracts.conversation import Limits, decode
from nexus_stream.contracts.headers import (
    HOP_HEADER,
    REDRIVE_HEADER,
    DeadLetterHeaders,
    EnrichedHeaders,
    IngestionHeaders,
)
from nexus_stream.contracts.prospect import (
    Arquetipo,
    ConversationFacts,
    EnrichedProspect,
    ExtractionFacts,
    Momento,
    Objecion,
    Prospect,
    Signal,
    SignalName,
    Source,
)
from nexus_stream.contracts.schemas import CONVERSATION, DEAD_LETTER_HEADERS, ENRICHED, ENRICHED_HEADERS, json_schemas
from nexus_stream.contracts.topics import declared_topics
from nexus_stream.delivery.dead_letters import letter_headers
from nexus_stream.delivery.received import Received
from nexus_stream.errors import DecodeError, Reason
from nexus_stream.settings import Settings
from tables.session_state import SessionState

ROOT = Path(__file__).parents[3]
GOLDEN = Path(__file__).with_name("golden")
SCHEMA_OF = {
    "enriched": ENRICHED,
    "conversation": CONVERSATION,
    "headers-enriched": ENRICHED_HEADERS,
    "headers-dead-letter": DEAD_LETTER_HEADERS,
}


def published(name: str) -> dict[str, Any]:
    """A schema as a subscriber gets it: the checked-in file."""
    schema: dict[str, Any] = json.loads((ROOT / "contracts" / name).read_text())
    return schema


def golden(prefix: str) -> dict[str, Any]:
    return {path.stem: json.loads(path.read_text()) for path in sorted(GOLDEN.glob(f"{prefix}*.json"))}


def test_checked_in_files_are_as_generated() -> None:
    assert differences(ROOT / "contracts") == [], "run `make contracts` and review the change: subscribers read these"


@pytest.mark.parametrize("name", json_schemas())
def test_schemas_are_draft_2020_12(name: str) -> None:
    Draft202012Validator.check_schema(published(name))


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("*.json")), ids=lambda path: path.stem)
def test_golden_messages_keep_validating(path: Path) -> None:
    prefix = max((prefix for prefix in SCHEMA_OF if path.stem.startswith(prefix)), key=len)
    Draft202012Validator(published(SCHEMA_OF[prefix])).validate(json.loads(path.read_text()))


@pytest.mark.parametrize("name", golden("enriched"))
def test_golden_records_are_read_without_loss(name: str) -> None:
    message = golden("enriched")[name]
    again = json.loads(EnrichedProspect.model_validate(message).model_dump_json())
    assert _is_within(message, again), "a field of version 1 was renamed, removed or changed its type"


@pytest.mark.parametrize("name", golden("conversation"))
def test_golden_conversations_are_accepted(name: str) -> None:
    message = golden("conversation")[name]
    conversation = decode(json.dumps(message).encode(), Limits())
    assert conversation.session_id == message["sessionId"]
    assert [turn.content for turn in conversation.messages] == [turn["content"] for turn in message["messages"]]


def test_unknown_fields_are_allowed() -> None:
    """So a later version 1 can add fields, and today's validators still accept its records."""
    message = golden("enriched")["enriched-walk-through"]
    message["prospect"]["idioma"] = "es"
    Draft202012Validator(published(ENRICHED)).validate({**message, "added_later": 1})


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("schema_version", 2),
        ("session_id", None),
        ("tenant_id", None),
        ("snapshot_at_ms", "2026-01-15"),
        ("prospect.nivel_interes", 10.5),
        ("prospect.objeciones", ["precio"]),
        ("prospect.arquetipo", "gerente"),
        ("prospect.momento_optimo", "hot"),
        ("source.partition", -1),
        ("extraction.signals", [{"name": "nombre", "turn": 0}]),
    ],
)
def test_a_record_that_is_not_an_enriched_prospect_is_refused(path: str, value: object) -> None:
    message = golden("enriched")["enriched-every-field"]
    *parents, field = path.split(".")
    holder = message
    for parent in parents:
        holder = holder[parent]
    holder[field] = value
    assert not Draft202012Validator(published(ENRICHED)).is_valid(message)


@pytest.mark.parametrize("field", golden("enriched")["enriched-every-field"])
def test_every_field_is_required(field: str) -> None:
    message = golden("enriched")["enriched-every-field"]
    del message[field]
    assert not Draft202012Validator(published(ENRICHED)).is_valid(message)


_TEXT = st.none() | st.text(max_size=20)
_COUNTS = st.integers(min_value=0, max_value=2**53)
_RECORDS = st.builds(
    EnrichedProspect,
    tenant_id=st.text(max_size=10),
    session_id=st.text(min_size=1, max_size=20),
    fingerprint=_TEXT,
    prospect=st.builds(
        Prospect,
        nombre=_TEXT,
        email=_TEXT,
        telefono=_TEXT,
        ocupacion=_TEXT,
        nivel_interes=st.floats(min_value=0, max_value=10),
        objeciones=st.lists(st.sampled_from(Objecion), unique=True).map(tuple),
        arquetipo=st.none() | st.sampled_from(Arquetipo),
        momento_optimo=st.sampled_from(Momento),
    ),
    conversation=st.builds(ConversationFacts, turns=_COUNTS, digest=st.text(max_size=40), first_url=_TEXT),
    extraction=st.builds(
        ExtractionFacts,
        extractor=st.text(max_size=20),
        model=_TEXT,
        prompt_version=_TEXT,
        dropped_fields=st.lists(st.text(max_size=10), max_size=3).map(tuple),
        signals=st.lists(
            st.builds(Signal, name=st.sampled_from(SignalName), turn=_COUNTS, start=_COUNTS, end=_COUNTS), max_size=3
        ).map(tuple),
        input_tokens=_COUNTS,
        cost_usd=st.floats(min_value=0, max_value=1e6),
    ),
    snapshot_at_ms=_COUNTS,
    enqueued_at=_TEXT,
    enriched_at=st.text(max_size=30),
    source=st.builds(Source, topic=st.text(max_size=20), partition=_COUNTS, offset=_COUNTS),
)
_ENRICHED_VALIDATOR = Draft202012Validator(published(ENRICHED))


@given(_RECORDS)
def test_every_possible_record_fits_its_schema(record: EnrichedProspect) -> None:
    _ENRICHED_VALIDATOR.validate(json.loads(record.model_dump_json()))


@pytest.mark.parametrize("reason", Reason)
def test_dead_letters_carry_the_published_headers(reason: Reason) -> None:
    record = Received("nexus-prospect-ingestion", 3, 41, 0, b"key", b"{", (("correlation-id", b"id"),), epoch=1)
    error = DecodeError("the value is not JSON", reason=reason)
    headers = letter_headers(record, error, attempts=1, failed_at="2026-01-15T12:00:02.311Z")
    named = {name: value.decode() for name, value in headers}
    Draft202012Validator(published(DEAD_LETTER_HEADERS)).validate(named)
    assert named.keys() - {"correlation-id"} == _names(DeadLetterHeaders)


def test_enriched_records_carry_the_published_headers() -> None:
    state = SessionState(
        session_id="s", digest="d", enriched_at="2026-01-15T12:00:02.311Z", snapshot_at_ms=1, correlation_id="id"
    )
    named = {name: value.decode() for name, value in state.emission_headers("nexus-enricher")}
    Draft202012Validator(published(ENRICHED_HEADERS)).validate(named)
    # Only a traced record has this header.
    assert named.keys() == _names(EnrichedHeaders) - {"traceparent"}


def test_ingestion_headers_name_those_the_stages_set() -> None:
    assert {HOP_HEADER, REDRIVE_HEADER} <= _names(IngestionHeaders)


def test_asyncapi_references_lead_somewhere() -> None:
    document = yaml.safe_load((ROOT / "contracts" / ASYNCAPI).read_text())
    references = list(_references(document))
    assert any(reference.startswith("./") for reference in references)
    for reference in references:
        if reference.startswith("./"):
            assert (ROOT / "contracts" / reference).is_file(), reference
        else:
            target: Any = document
            for part in reference.removeprefix("#/").split("/"):
                target = target[part]


def test_asyncapi_names_the_declared_topics() -> None:
    settings = Settings()
    channels = {
        channel["address"]: channel["bindings"]["kafka"] for channel in asyncapi_document()["channels"].values()
    }
    declared = {spec.name: spec for spec in declared_topics(settings)}
    # The changelog is the enricher's own.
    assert channels.keys() == declared.keys() - {settings.sessions_changelog_topic}
    for name, kafka in channels.items():
        assert kafka["partitions"] == declared[name].partitions
        assert kafka["topicConfiguration"]["retention.ms"] == int(declared[name].configs["retention.ms"])


def test_write_then_check(tmp_path: Path) -> None:
    runner = CliRunner()
    assert runner.invoke(command, ["write", str(tmp_path)]).exit_code == 0
    assert {path.name for path in tmp_path.iterdir()} == published_files().keys()
    assert runner.invoke(command, ["check", str(tmp_path)]).exit_code == 0


def test_check_names_what_differs(tmp_path: Path) -> None:
    runner = CliRunner()
    runner.invoke(command, ["write", str(tmp_path)])
    (tmp_path / ENRICHED).write_text("{}\n")
    (tmp_path / CONVERSATION).unlink()
    (tmp_path / "old.schema.json").write_text("{}\n")

    result = runner.invoke(command, ["check", str(tmp_path)])

    assert result.exit_code == 1
    assert f"{ENRICHED}: differs" in result.stderr
    assert f"{CONVERSATION}: missing" in result.stderr
    assert "old.schema.json: not generated" in result.stderr
    assert "nexus contracts write" in result.stderr


def _names(record: type[IngestionHeaders | EnrichedHeaders | DeadLetterHeaders]) -> set[str]:
    return {field.alias or name for name, field in record.model_fields.items()}


def _references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"]
        node = list(node.values())
    if isinstance(node, list):
        for child in node:
            yield from _references(child)


def _is_within(part: Any, whole: Any) -> bool:
    if isinstance(part, dict):
        return isinstance(whole, dict) and all(
            name in whole and _is_within(value, whole[name]) for name, value in part.items()
        )
    if isinstance(part, list) and isinstance(whole, list):
        return len(part) == len(whole) and all(map(_is_within, part, whole))
    return bool(part == whole)
