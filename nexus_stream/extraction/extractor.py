"""The one interface between the enricher and whatever reads a conversation.

An extractor (Claude, or the offline rules) answers with *findings*: what it believes, each with the words it believes
it from. It decides nothing: grounding.py checks findings against the user's own turns, scoring.py computes the
interest, merging.py joins them with what the session already had.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, Protocol, runtime_checkable

from nexus_stream.contracts.prospect import Arquetipo, Objecion, Signal

__all__ = ["Extractor", "Findings", "MadeBy", "Remembers", "Turn", "Usage"]


class Turn(NamedTuple):
    """One turn of the chat, as the extractor sees it: role and content, nothing else."""

    role: Literal["user", "assistant"]
    content: str


@dataclass(frozen=True, slots=True)
class Usage:
    """What one extraction cost. Tokens as the API reports them; USD at list price."""

    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cost_usd: float = 0.0
    latency_ms: float = 0.0


@dataclass(frozen=True, slots=True)
class MadeBy:
    """Which extractor made findings: the labels of every record."""

    extractor: str
    model: str | None = None
    prompt_version: str | None = None

    @classmethod
    def of(cls, extractor: Extractor) -> MadeBy:
        """The extractor's own labels."""
        return cls(extractor.name, extractor.model, extractor.prompt_version)


@dataclass(frozen=True, slots=True)
class Findings:
    """What an extractor believes about the user, before anything is checked.

    ``signals`` carry the evidence (spans in user turns), among them ``intencion``, ``desinteres`` and the corrections,
    which scoring and merging read. Values are as found; grounding normalises and drops what no user turn holds.

    Attributes:
        made_by: Who made them, if that is not the extractor that was asked: one that falls back on another, say.
        cached: Whether they were made for equal turns before, so that nothing was called or paid now.
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
    cached: bool = False


class Extractor(Protocol):
    """Reads one conversation.

    Raises (from ``extract``):
        RetryableError: nothing was decided; try the same turns again later.
        PermanentError: these turns fail the same way every time.
    """

    @property
    def name(self) -> str:
        """The label in every record: ``claude`` or ``offline-rules-v1``."""
        ...

    @property
    def model(self) -> str | None:
        """The model's name, if a model is asked."""
        ...

    @property
    def prompt_version(self) -> str | None:
        """The version of the prompt, if a model is asked."""
        ...

    async def extract(self, turns: Sequence[Turn]) -> Findings:
        """Read the turns, oldest first; at least one."""
        ...

    async def close(self) -> None:
        """Release connections."""
        ...


@runtime_checkable
class Remembers(Protocol):
    """An `Extractor` that keeps answers."""

    async def forget(self) -> None:
        """Throw away every answer that is kept: they are personal data, and somebody was erased."""
        ...
