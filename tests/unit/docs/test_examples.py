"""The data and programs in the documents are valid."""

from __future__ import annotations

import ast
import importlib
import json
from pathlib import Path
from typing import Any

from nexus_stream.contracts.prospect import EnrichedProspect
from nexus_stream.contracts.topics import declared_topics, segment_hours
from nexus_stream.extraction.scoring import moment


def test_json_blocks_are_json(page: Any) -> None:
    for block in page.blocks("json"):
        json.loads(block)


def test_the_enriched_prospect_of_the_data_model_is_valid_and_has_every_field(root: Path) -> None:
    text = (root / "docs" / "reference" / "data-model.md").read_text(encoding="utf-8")
    example = json.loads(text.partition("```json\n")[2].partition("```")[0])
    record = EnrichedProspect.model_validate(example)
    assert json.loads(record.model_dump_json()) == example
    assert record.prospect.momento_optimo is moment(record.prospect.nivel_interes)


def test_python_blocks_compile_and_their_imports_exist(page: Any) -> None:
    for block in page.blocks("python"):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom) and node.module is not None:
                module = importlib.import_module(node.module)
                assert [alias.name for alias in node.names if not hasattr(module, alias.name)] == []


def test_the_table_of_topics_is_the_declared_one(root: Path) -> None:
    from nexus_stream.settings import Settings

    settings = Settings()
    text = (root / "docs" / "reference" / "topics.md").read_text(encoding="utf-8")
    for spec in declared_topics(settings):
        name = spec.name.replace(settings.enricher_app_id, "<enricher app id>")
        rows = [line for line in text.splitlines() if line.startswith(f"| `{name}` |")]
        assert len(rows) == 1, name
        cells = [cell.strip() for cell in rows[0].strip("|").split("|")]
        partitions = "`NEXUS_TOPIC_PARTITIONS`" if spec.partitions == settings.topic_partitions else "1"
        assert cells[2] == partitions, name
        assert cells[3].partition(", lag")[0].replace(" ", "") == spec.configs["cleanup.policy"], name
        if spec.configs["cleanup.policy"] != "compact":
            hours = int(spec.configs["retention.ms"]) // 3_600_000
            assert cells[4].startswith(f"{hours} h"), name
    assert segment_hours(settings.ingestion_retention_hours) == 24
