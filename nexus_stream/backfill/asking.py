"""Build an item's request for a batch, and the parts that are needed to read its answer.

The request is the same as the live extractor's, so that both give the same results.
"""

from __future__ import annotations

from typing import Final

from anthropic.types.messages.batch_create_params import Request

from nexus_stream.backfill.records import Item
from nexus_stream.backfill.store import RunStore
from nexus_stream.contracts.conversation import decode, digest
from nexus_stream.contracts.limits import enricher_limits
from nexus_stream.extraction.claude.prompt import load_prompt, turns_as_json
from nexus_stream.extraction.claude.request import ask_again, message_params
from nexus_stream.extraction.extractor import MadeBy, Turn
from nexus_stream.settings import Settings

__all__ = ["Asking"]

_EXTRACTOR_NAME: Final = "claude"


class Asking:
    """Builds requests.

    Args:
        settings: Model and limits.
        store: Gives the custom ids.

    Attributes:
        prompt: Rules and schema.
        made_by: The labels of the answers.
    """

    def __init__(self, settings: Settings, store: RunStore) -> None:
        self.prompt = load_prompt()
        self.made_by = MadeBy(_EXTRACTOR_NAME, settings.claude_model, self.prompt.version)
        self._settings = settings
        self._store = store
        self._limits = enricher_limits(settings)

    def request(self, item: Item, chunk: int) -> Request:
        """Build the item's request for a chunk."""
        return {
            "custom_id": self._store.custom_id(chunk, item.session),
            "params": message_params(self._settings, self.prompt, self.texts(item)),
        }

    def texts(self, item: Item) -> list[str]:
        """The texts of the request after the prompt."""
        texts = [turns_as_json(self.turns(item))]
        return [*texts, ask_again(item.problems)] if item.problems is not None else texts

    def turns(self, item: Item) -> list[Turn]:
        """The turns of the item's conversation."""
        return [Turn(message.role, message.content) for message in decode(item.value, self._limits).messages]

    def digest(self, item: Item) -> str:
        """The digest that binds an answer to the conversation."""
        return digest(decode(item.value, self._limits))
