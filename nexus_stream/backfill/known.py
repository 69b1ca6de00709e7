"""Skip conversations that the session table already knows: they are neither paid nor sent.

With ``--again`` it is the other way round: only those are read whose record another model, another prompt or the
offline rules made.

From: the table's changelog, read to its end. To: the items of store.py. The session state judges each snapshot with
the same function as in the enricher. An erased person's conversation is never sent to Claude.
"""

from __future__ import annotations

import orjson

from nexus_stream.backfill.intake import snapshot_of
from nexus_stream.backfill.records import Item
from nexus_stream.backfill.store import RunStore
from nexus_stream.contracts.conversation import Conversation
from nexus_stream.contracts.headers import AGAIN_HEADER, AGAIN_OF_HEADER, ANSWER_HEADER
from nexus_stream.contracts.limits import enricher_limits
from nexus_stream.contracts.session_key import session_key
from nexus_stream.extraction.extractor import MadeBy
from nexus_stream.privacy.changelog import StoredState, read_states
from nexus_stream.settings import Settings
from tables.session_state import Verdict, decode_state

__all__ = ["CURRENT", "PLAIN", "UNREAD", "judge_pending", "states_of"]

# Outcome of an item that is sent without an answer, because the enricher needs none.
PLAIN = "plain"
# Outcomes of items that are not read again: the record is current, or there is no record of these words.
CURRENT = "current"
UNREAD = "unread"
_OUTCOMES = {
    Verdict.SUPPRESSED: "erased",
    Verdict.DUPLICATE: "known",
    Verdict.STALE: "known",
    Verdict.REDELIVERED: "known",
    Verdict.DEAD: "known",
    Verdict.GIVEN_UP: "known",
}


async def judge_pending(
    store: RunStore, settings: Settings, *, use_table: bool = True, again: MadeBy | None = None
) -> None:
    """Skip known items, and mark items that need no model as ready; the others stay pending.

    Args:
        store: The state of the run.
        settings: Broker, topics, limits, consent.
        use_table: Whether the table can be read.
        again: The labels of the new answers, if records are read again.

    Raises:
        BrokerUnavailableError: the changelog cannot be read.
        StateVersionError: the table was written by a newer version.
    """
    states = await states_of(store, settings) if use_table else {}
    with store.transaction():
        for item in store.all_items("pending"):
            if again is None:
                _judge(store, settings, item, states.get(item.session))
            else:
                _judge_again(store, settings, item, states.get(item.session), again)


async def states_of(store: RunStore, settings: Settings) -> dict[bytes, StoredState]:
    """The states of the items' sessions."""
    return await read_states(settings, lambda state: store.find(_key(state)) is not None)


def _judge_again(store: RunStore, settings: Settings, item: Item, raw: StoredState | None, again: MadeBy) -> None:
    state = None if raw is None else decode_state(orjson.dumps(raw))
    made_by = None if state is None else state.made_by
    replaced = "" if made_by is None else made_by.label
    headers = ((AGAIN_HEADER, again.label.encode()), (AGAIN_OF_HEADER, replaced.encode()))
    answered = (*headers, (ANSWER_HEADER, b""))
    snapshot = snapshot_of(settings.ingestion_topic, item, enricher_limits(settings), answered)
    verdict = Verdict.NEW if state is None else state.judge(snapshot)
    if verdict is Verdict.SUPPRESSED:
        store.skip(item, "erased")
        return
    if state is None or (verdict is Verdict.NEW and not state.is_read_again(snapshot)):
        store.skip(item, UNREAD)
        return
    is_asked = verdict is Verdict.NEW and _needs_model(snapshot.conversation, settings)
    is_answered = store.was_left(snapshot.digest, again.label) or store.is_on_the_way(snapshot.digest, again.label)
    if not is_asked or is_answered:
        store.skip(item, CURRENT)
    else:
        store.set_improves(item, True)
        kept = tuple(header for header in item.headers if header[0] not in {AGAIN_HEADER, AGAIN_OF_HEADER})
        store.set_headers(item, (*kept, *headers))


def _judge(store: RunStore, settings: Settings, item: Item, raw: StoredState | None) -> None:
    topic, limits = settings.ingestion_topic, enricher_limits(settings)
    if raw is not None:
        state = decode_state(orjson.dumps(raw))
        # With an answer header, a snapshot also counts as new if only the offline rules have read it.
        answered = snapshot_of(topic, item, limits, ((ANSWER_HEADER, b""),))
        verdict = state.judge(answered)
        if verdict in {Verdict.FINGERPRINT, Verdict.RETOLD}:
            store.ready(item, PLAIN, None)
            return
        if verdict is not Verdict.NEW:
            store.skip(item, _OUTCOMES[verdict])
            return
        store.set_improves(item, state.improves(answered) and state.digest == answered.digest)
    if not _needs_model(snapshot_of(topic, item, limits).conversation, settings):
        store.ready(item, PLAIN, None)


def _needs_model(conversation: Conversation, settings: Settings) -> bool:
    """Whether the live extractor would call Claude: not without consent, and not if the user wrote nothing."""
    if conversation.metadata.consent is False and settings.consent_respected:
        return False
    return any(message.role == "user" and message.content.strip() for message in conversation.messages)


def _key(state: StoredState) -> bytes:
    try:
        return session_key(state.get("tenant_id", ""), state["session_id"])
    except (KeyError, ValueError):
        return b""
