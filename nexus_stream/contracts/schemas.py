"""The published JSON Schemas, generated from the records that the code itself reads and writes.

To: ``contracts/*.schema.json`` (draft 2020-12). ``nexus contracts`` writes them, and a test compares them with the
checked-in files.

In the schema of a record that we write, every field is required, and nulls are explicit. In the schema of a record that
we read, only the necessary fields are required. A field that is added to version 1 later must not become ``required``,
because older records without it are still on the topic. The golden messages in the tests check this.
"""

from __future__ import annotations

import json
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaMode, JsonSchemaValue
from pydantic_core import core_schema

from nexus_stream.contracts.conversation import Conversation
from nexus_stream.contracts.erased import ErasedSession
from nexus_stream.contracts.headers import DeadLetterHeaders, EnrichedHeaders, ErasedHeaders
from nexus_stream.contracts.prospect import EnrichedProspect
from nexus_stream.contracts.session_command import SessionCommand
from nexus_stream.contracts.status import ProcessStatus

__all__ = [
    "CONVERSATION",
    "DEAD_LETTER_HEADERS",
    "ENRICHED",
    "ENRICHED_HEADERS",
    "ERASED",
    "ERASED_HEADERS",
    "PROCESS_STATUS",
    "SESSION_COMMAND",
    "json_schema",
    "json_schemas",
    "schema_files",
]

ENRICHED = "enriched-prospect.v1.schema.json"
ENRICHED_HEADERS = "enriched-prospect-headers.v1.schema.json"
CONVERSATION = "conversation.v1.schema.json"
DEAD_LETTER_HEADERS = "dead-letter-headers.v1.schema.json"
ERASED = "erased-session.v1.schema.json"
ERASED_HEADERS = "erased-session-headers.v1.schema.json"
SESSION_COMMAND = "session-command.v1.schema.json"
PROCESS_STATUS = "process-status.v1.schema.json"

_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_SOURCES: dict[str, tuple[type[BaseModel], JsonSchemaMode]] = {
    ENRICHED: (EnrichedProspect, "serialization"),
    ENRICHED_HEADERS: (EnrichedHeaders, "validation"),
    ERASED: (ErasedSession, "serialization"),
    ERASED_HEADERS: (ErasedHeaders, "validation"),
    CONVERSATION: (Conversation, "validation"),
    SESSION_COMMAND: (SessionCommand, "validation"),
    DEAD_LETTER_HEADERS: (DeadLetterHeaders, "validation"),
    # Null fields are left out on the wire.
    PROCESS_STATUS: (ProcessStatus, "validation"),
}
# Fields that version 1 got after its first records: by class.
_ADDED_LATER: dict[str, frozenset[str]] = {
    "ConversationFacts": frozenset({"cut", "left_out", "identity"}),
    "ExtractionFacts": frozenset({"instead_of", "doubtful_fields"}),
    "Signal": frozenset({"confirmed"}),
}


class _Published(GenerateJsonSchema):
    """Leaves out titles, which only repeat field names, and requires every field that we always write."""

    def field_is_required(
        self,
        field: core_schema.ModelField | core_schema.DataclassField | core_schema.TypedDictField,
        total: bool,
    ) -> bool:
        return self.mode == "serialization" or super().field_is_required(field, total)

    def field_title_should_be_set(self, schema: object) -> bool:
        return False

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        return self.generate_inner(schema["schema"])


def json_schema(record: type[BaseModel], mode: JsonSchemaMode) -> dict[str, Any]:
    """The schema of one record, with the field names of the wire.

    Args:
        record: The pydantic class.
        mode: ``serialization`` for a record that we write, ``validation`` for one that we read.
    """
    schema = record.model_json_schema(by_alias=True, mode=mode, schema_generator=_Published)
    for name, added in _ADDED_LATER.items():
        if (definition := schema.get("$defs", {}).get(name)) is not None:
            definition["required"] = [field for field in definition["required"] if field not in added]
    return schema


def json_schemas() -> dict[str, dict[str, Any]]:
    """File name -> JSON Schema, draft 2020-12."""
    return {
        name: {
            "$schema": _DIALECT,
            "$id": f"urn:nexus-stream:{name.removesuffix('.schema.json')}",
            **json_schema(record, mode),
        }
        for name, (record, mode) in _SOURCES.items()
    }


def schema_files() -> dict[str, str]:
    """File name -> text."""
    return {name: json.dumps(schema, indent=2, ensure_ascii=False) + "\n" for name, schema in json_schemas().items()}
