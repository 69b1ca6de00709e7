"""The prompt for Claude: the labelling rules, the answer's schema, and the conversation as data.

``prompt_v2.md`` and ``schema_v2.json`` are beside this file. The prompt version in every record contains a hash of
both files, so two different prompts never share a version.
"""

from __future__ import annotations

import functools
import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, Final

from nexus_stream.extraction.extractor import Turn

__all__ = ["PROMPT_NAME", "Prompt", "load_prompt", "prompt_version", "turns_as_json"]

PROMPT_NAME: Final = "prospect-v2"
_PROMPT_FILE: Final = "prompt_v2.md"
_SCHEMA_FILE: Final = "schema_v2.json"

# JSON may contain an escaped lone surrogate. UTF-8 cannot encode it, so the request could not be sent.
_LONE_SURROGATE = re.compile(r"[\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Prompt:
    """The system prompt and the answer's JSON Schema, with one version for both."""

    system: str
    schema: dict[str, Any]
    version: str


def prompt_version(name: str, system: str, schema_text: str) -> str:
    """Compute ``<name>-<8 hex digits>``, a hash of both texts that ignores the kind of line ends."""
    hasher = hashlib.sha256()
    for text in (system, schema_text):
        data = "\n".join(text.splitlines()).encode()
        hasher.update(len(data).to_bytes(4, "big"))
        hasher.update(data)
    return f"{name}-{hasher.hexdigest()[:8]}"


@functools.cache
def load_prompt() -> Prompt:
    """Read both files, once per process."""
    folder = files(__package__)
    system = folder.joinpath(_PROMPT_FILE).read_text(encoding="utf-8")
    schema_text = folder.joinpath(_SCHEMA_FILE).read_text(encoding="utf-8")
    return Prompt(
        system=system,
        schema=json.loads(schema_text),
        version=prompt_version(PROMPT_NAME, system, schema_text),
    )


def turns_as_json(turns: Sequence[Turn]) -> str:
    """Encode the conversation as one JSON array: JSON's escaping keeps a user's text inside its string.

    Accents and emoji are not escaped, because the model must quote them exactly.
    """
    return json.dumps(
        [
            {"turn": index, "role": turn.role, "content": _LONE_SURROGATE.sub("�", turn.content)}
            for index, turn in enumerate(turns)
        ],
        ensure_ascii=False,
        separators=(",", ":"),
    )
