"""An unfinished run continues with the model and the prompt that it has asked, and with no other ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from nexus_stream.backfill.source import BackfillSource
from nexus_stream.backfill.store import RunStore
from nexus_stream.errors import ConfigurationError
from nexus_stream.extraction.extractor import MadeBy

OLD = MadeBy("claude", "claude-old", "prospect-v1-0")
NEW = MadeBy("claude", "claude-new", "prospect-v2-0")


def put(store: RunStore) -> None:
    with store.transaction():
        store.put_snapshot(b"s-1", b"a text", (), 1000, None)


def test_answers_of_one_model_get_no_label_of_another_one(tmp_path: Path):
    require = BackfillSource(None).require_same_model
    with RunStore.open(tmp_path / "runs" / "topic") as store:
        put(store)
        require(store, tmp_path, OLD)
        # Nothing was asked yet.
        require(store, tmp_path, NEW)
        store.intend(store.items("pending"), 0.5)
        require(store, tmp_path, NEW)
        with pytest.raises(ConfigurationError, match=r"has asked claude claude-new .*--name"):
            require(store, tmp_path, OLD)


def test_a_run_of_a_version_that_noted_no_model_is_not_continued(tmp_path: Path):
    with RunStore.open(tmp_path / "runs" / "topic") as store:
        put(store)
        store.intend(store.items("pending"), 0.5)
        with pytest.raises(ConfigurationError, match="earlier version"):
            BackfillSource(None).require_same_model(store, tmp_path, OLD)
