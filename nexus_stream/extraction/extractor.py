"""The one interface between the enricher and an extractor.

An extractor (Claude, or the offline rules) reads a conversation and returns *findings*: values, each with the words
that support it. It decides nothing: grounding.py checks the findings against the user's own turns, scoring.py computes
the interest, and merging.py merges them into the session's record.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, Protocol, runtime_checkable

from nexus_stream.contracts.prospect import Arquetipo, Objecion, Signal
from nexus_stream.errors import Reason

__all__ = [
    "RULES_NAME",
    "Extractor",
    "Findings",
    "HasSubstitute",
    "MadeBy",
    "ReadByRules",
    "Remembers",
    "Turn",
    "Usage",
]

# The labels of the offline rules begin with this.
RULES_NAME = "offline-rules"


class Turn(NamedTuple):
    """One turn of the chat, as the extractor sees it: only role and content."""

    role: Literal["user", "assistant"]
    content: str


@dataclass(frozen=True, slots=True)
class Usage:
    """The cost of one extraction. Tokens as the API reports them; USD at list price."""

    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cost_usd: float = 0.0
    latency_ms: float = 0.0


@dataclass(frozen=True, slots=True)
class MadeBy:
    """The extractor that made the findings: the labels of every record."""

    # ``claude`` or ``offline-rules-v1``.
    extractor: str
    # If a model is asked.
    model: str | None = None
    prompt_version: str | None = None

    @property
    def label(self) -> str:
        """All three in one text."""
        return " ".join((self.extractor, self.model or "-", self.prompt_version or "-"))

    @property
    def is_rules(self) -> bool:
        """Whether the offline rules made them."""
        return self.extractor.startswith(RULES_NAME)


@dataclass(frozen=True, slots=True)
class Findings:
    """The values that an extractor read about the user, before any check.

    ``signals`` carry the evidence (spans in user turns). Scoring and merging read some of them: ``intencion``,
    ``desinteres`` and the corrections. Values are as found: grounding normalises them, and drops values that no user
    turn supports.

    Attributes:
        made_by: The extractor that made them, if it is not the one that was called. Example: a fallback.
        instead_of: Why the extractor that was called could not read the turns, if another one read them instead.
        cached: Whether they come from an earlier call for equal turns, so that nothing was called or paid now.
    """

    nombre: str | None = None
    email: str | None = None
    telefono: str | None = None
    ocupacion: str | None = None
    objeciones: tuple[Objecion, ...] = ()
    arquetipo: Arquetipo | None = None
    signals: tuple[Signal, ...] = ()
    dropped_fields: tuple[str, ...] = ()
    usage: Usage = field(default_factory=Usage)
    made_by: MadeBy | None = None
    instead_of: Reason | None = None
    cached: bool = False


@dataclass(frozen=True, slots=True)
class ReadByRules(Findings):
    """Findings of the offline rules, which read values in the user's own words and nowhere else.

    So they need no check. A test holds every such value to the check of a model's answer. An answer from a cache or a
    header is never of this class.

    Attributes:
        doubtful_fields: Contacts that the user corrected later, in words that cannot be read.
    """

    doubtful_fields: tuple[str, ...] = ()


class Extractor(Protocol):
    """Reads one conversation.

    Raises (from ``extract``):
        RetryableError: nothing was decided; try the same turns again later.
        PermanentError: these turns will always fail in the same way.
    """

    @property
    def labels(self) -> MadeBy:
        """The labels of the records it reads."""
        ...

    async def extract(self, turns: Sequence[Turn], region: str | None = None) -> Findings:
        """Read one conversation.

        Args:
            turns: Oldest first; at least one.
            region: Country (ISO 3166, two letters) of phone numbers without a country code, if the chat supports no
                other. Only the offline rules use it: a model gives numbers as they were typed.
        """
        ...

    async def close(self) -> None:
        """Release connections."""
        ...


@runtime_checkable
class HasSubstitute(Protocol):
    """An `Extractor` that has the offline rules for conversations that no model can read."""

    async def read_instead(self, turns: Sequence[Turn], reason: Reason | None, region: str | None = None) -> Findings:
        """Read the turns with the rules, at no cost.

        Args:
            turns: As for `Extractor.extract`.
            reason: Why no model read them; None if it only had no budget.
            region: As for `Extractor.extract`.

        Returns:
            The findings, with ``made_by`` and ``instead_of``.
        """
        ...


@runtime_checkable
class Remembers(Protocol):
    """An `Extractor` that stores answers."""

    async def forget(self) -> None:
        """Delete every stored answer: answers are personal data, and a person was erased."""
        ...
