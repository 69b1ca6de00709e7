"""The state of a run: it survives a restart, sent conversations are zeroed, and custom ids reveal nothing."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from nexus_stream.backfill.store import RunStore
from nexus_stream.errors import ConfigurationError


def fill(store: RunStore, count: int = 3) -> None:
    with store.transaction():
        for number in range(count):
            store.put_snapshot(f"s-{number}".encode(), b"a secret text", (("correlation-id", b"c"),), 1000, None)


def test_the_state_survives_a_restart(tmp_path: Path):
    with RunStore.open(tmp_path / "runs" / "one") as store:
        fill(store)
        chunk = store.intend(store.items("pending", limit=2), 0.5)
        run_id = store.get("run_id")
    with RunStore.open(tmp_path / "runs" / "one") as store:
        assert store.get("run_id") == run_id
        (found,) = store.chunks("intended")
        assert (found.id, found.requests, found.reserved_usd, found.batch_id) == (chunk.id, 2, 0.5, None)
        assert store.counts().states == {"batched": 2, "pending": 1}
        assert store.items("batched")[0].headers == (("correlation-id", b"c"),)


def test_an_interrupted_transaction_stores_nothing(tmp_path: Path):
    with RunStore.open(tmp_path / "runs" / "one") as store:

        def break_off() -> None:
            with store.transaction():
                store.put_snapshot(b"s", b"text", (), 1, None)
                raise RuntimeError

        with pytest.raises(RuntimeError):
            break_off()
        assert store.counts().total == 0


def test_custom_ids_are_stable_fit_the_api_and_reveal_no_session(tmp_path: Path):
    with RunStore.open(tmp_path / "runs" / "one") as store, RunStore.in_memory() as other:
        one = store.custom_id(1, b"maria@example.com")
        assert one == store.custom_id(1, b"maria@example.com")
        assert re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", one)
        assert "maria" not in one
        assert one.startswith(store.prefix(1))
        assert not one.startswith(store.prefix(11))
        # Each run has its own secret, so nobody can find a session by trying ids.
        assert one.rsplit("-", 1)[1] != other.custom_id(1, b"maria@example.com").rsplit("-", 1)[1]


def test_a_sent_or_skipped_conversation_is_erased_from_the_file(tmp_path: Path):
    with RunStore.open(tmp_path / "runs" / "one") as store:
        fill(store, 40)
        assert b"a secret text" in (tmp_path / "runs" / "one" / "state.sqlite3").read_bytes()
        with store.transaction():
            for item in store.all_items("pending"):
                if item.id % 2:
                    store.ready(item, "answered", b"an answer")
                else:
                    store.skip(item, "known")
            store.sent(store.items("ready"))
        assert store.counts().states == {"sent": 20, "skipped": 20}
    raw = (tmp_path / "runs" / "one" / "state.sqlite3").read_bytes()
    assert b"a secret text" not in raw
    assert b"an answer" not in raw


def test_only_the_owner_can_read_the_state(tmp_path: Path):
    with RunStore.open(tmp_path / "runs" / "one"):
        assert (tmp_path / "runs" / "one").stat().st_mode & 0o777 == 0o700
        assert (tmp_path / "runs" / "one" / "state.sqlite3").stat().st_mode & 0o777 == 0o600


def test_only_one_backfill_may_run_at_a_time(tmp_path: Path):
    with RunStore.open(tmp_path / "runs" / "one"), pytest.raises(ConfigurationError, match="Another backfill"):
        RunStore.open(tmp_path / "runs" / "two")
    RunStore.open(tmp_path / "runs" / "two").close()


def test_all_items_continues_while_states_change():
    with RunStore.in_memory() as store:
        fill(store, 1200)
        for item in store.all_items("pending"):
            store.ready(item, "plain", None)
        assert store.counts().states == {"ready": 1200}
