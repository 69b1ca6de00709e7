"""The enriched prospect, version 1: the value of every record on ``prospects-enriched``.

From: the enricher. To: the sink, the console and any subscriber (the key is always the session key). Version 1 only
gets additional fields. The JSON Schema in contracts/ is generated from this file and checked in.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from nexus_stream.contracts.cutting import Cut

__all__ = [
    "SCHEMA_VERSION",
    "Arquetipo",
    "ConversationFacts",
    "EnrichedProspect",
    "ExtractionFacts",
    "Momento",
    "Objecion",
    "Prospect",
    "Signal",
    "SignalName",
    "Source",
    "VisitorIdentity",
]

SCHEMA_VERSION: Literal[1] = 1


class Objecion(StrEnum):
    """The prospect's kinds of objection or doubt."""

    PRICE = "price"
    TIME = "time"
    TRUST = "trust"
    MLM = "mlm"


class Arquetipo(StrEnum):
    """The kind of prospect: the six archetypes of the business."""

    EMPRENDEDOR_DUENO_NEGOCIO = "emprendedor_dueno_negocio"
    PROFESIONAL_VISION = "profesional_vision"
    LIDER_HOGAR = "lider_hogar"
    JOVEN_AMBICION = "joven_ambicion"
    INDEPENDIENTE_FREELANCER = "independiente_freelancer"
    LIDER_COMUNIDAD = "lider_comunidad"


class Momento(StrEnum):
    """How ready the prospect is: caliente at a score of 7 or more, tibio at 4 or more, else frio."""

    CALIENTE = "caliente"
    TIBIO = "tibio"
    FRIO = "frio"


class SignalName(StrEnum):
    """The meaning of a piece of evidence. Scores and corrections are computed only from these."""

    NOMBRE = "nombre"
    EMAIL = "email"
    TELEFONO = "telefono"
    OCUPACION = "ocupacion"
    ARQUETIPO = "arquetipo"
    INTENCION = "intencion"  # says quiero, empezar or inversión
    DESINTERES = "desinteres"  # says "no me interesa"
    OBJECION_PRICE = "objecion_price"
    OBJECION_TIME = "objecion_time"
    OBJECION_TRUST = "objecion_trust"
    OBJECION_MLM = "objecion_mlm"
    # The user corrected an earlier value: the new value replaces the known one, also a longer one.
    CORRECCION_NOMBRE = "correccion_nombre"
    CORRECCION_EMAIL = "correccion_email"
    CORRECCION_TELEFONO = "correccion_telefono"


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)


class Signal(_Record):
    """The place of a fact in the conversation: ``messages[turn].content[start:end]``, in a user's turn.

    Positions count Unicode code points, end exclusive, in the snapshot of the record.
    """

    name: SignalName
    turn: Annotated[int, Field(ge=0)]
    start: Annotated[int, Field(ge=0)]
    end: Annotated[int, Field(ge=0)]
    confirmed: Annotated[
        bool, Field(description="whether our own rules know such words; only then the score counts the signal")
    ] = True


class Prospect(_Record):
    """Name, contact details, occupation, interest and objections of the prospect."""

    nombre: str | None = None
    email: str | None = None
    telefono: Annotated[str | None, Field(description="E.164, for example +573005550102")] = None
    ocupacion: str | None = None
    nivel_interes: Annotated[float, Field(ge=0, le=10)] = 0.0
    objeciones: tuple[Objecion, ...] = ()
    arquetipo: Arquetipo | None = None
    momento_optimo: Momento = Momento.FRIO


class VisitorIdentity(_Record):
    """The visitor's id at the site, as the site claims it."""

    value: Annotated[str, Field(description="personal data")]
    proven: Annotated[bool, Field(description="whether the site's server proved it to the gateway")] = False


class ConversationFacts(_Record):
    """Facts about the snapshot of the record; never its text."""

    turns: Annotated[int, Field(ge=0)]
    digest: Annotated[str, Field(description="hash of the turns, consent and tenant")]
    first_url: str | None = None
    cut: Annotated[Cut | None, Field(description="what the limits cut from the snapshot; null if nothing")] = None
    left_out: Annotated[dict[str, int], Field(description="turns and parts that were not read, by kind")] = {}
    identity: VisitorIdentity | None = None


class ExtractionFacts(_Record):
    """How the record was extracted, and the cost."""

    extractor: Annotated[
        str, Field(description='"claude" or "offline-rules-v1"; "none" if nothing was extracted, e.g. without consent')
    ]
    model: str | None = None
    prompt_version: str | None = None
    instead_of: Annotated[
        str | None,
        Field(description="why the offline rules read this instead of the model: the reason of the dead letter"),
    ] = None
    dropped_fields: tuple[str, ...] = ()
    doubtful_fields: Annotated[
        tuple[str, ...],
        Field(description="email, telefono: the user corrected it in words that could not be read"),
    ] = ()
    signals: tuple[Signal, ...] = ()
    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cost_usd: float = 0.0
    latency_ms: float = 0.0
    cached: Annotated[bool, Field(description="whether the answer for equal turns was reused: nothing was paid")] = (
        False
    )


class Source(_Record):
    """The ingestion record of the snapshot."""

    topic: str
    partition: Annotated[int, Field(ge=0)]
    offset: Annotated[int, Field(ge=0)]


class EnrichedProspect(_Record):
    """The cumulative record of one session after its newest snapshot.

    ``snapshot_at_ms``, then ``enriched_at`` order the records of one session: both only grow.
    """

    schema_version: Literal[1] = SCHEMA_VERSION
    tenant_id: str = ""
    session_id: str
    fingerprint: str | None = None
    prospect: Prospect
    conversation: ConversationFacts
    extraction: ExtractionFacts
    snapshot_at_ms: Annotated[int, Field(description="time of the snapshot, Unix milliseconds")]
    enqueued_at: Annotated[str | None, Field(description="ISO 8601, from the gateway")] = None
    enriched_at: Annotated[str, Field(description="ISO 8601 with milliseconds, UTC")]
    source: Source
