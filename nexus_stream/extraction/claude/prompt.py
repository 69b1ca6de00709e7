"""What Claude is asked with: the labelling rules, the answer's schema, the conversation as data.

From: ``prompt_v1.md`` and ``schema_v1.json`` beside this file, and the turns of one conversation. To: the request.
The version written into every record carries a hash of both files, so no two prompts ever share one.
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

PROMPT_NAME: Final = "prospect-v1"
_PROMPT_FILE: Final = "prompt_v1.md"
_SCHEMA_FILE: Final = "schema_v1.json"

# JSON text may escape a lone surrogate; UTF-8 cannot hold one, so the request could not be sent.
_LONE_SURROGATE = re.compile(r"[\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Prompt:
    """The system prompt and the answer's JSON Schema, with the version of the two together."""

    system: str
    schema: dict[str, Any]
    version: str


def prompt_version(name: str, system: str, schema_text: str) -> str:
    """``<name>-<8 hex digits>``, over both texts with their line ends made equal."""
    hasher = hashlib.sha256()
    for text in (system, schema_text):
        data = "\n".join(text.splitlines()).encode()
        hasher.update(len(data).to_bytes(4, "big"))
        hasher.update(data)
    return f"{name}-{hasher.hexdigest()[:8]}"


@functools.cache
def load_prompt() -> Prompt:
    """Read both files, once a process."""
    folder = files(__package__)
    system = folder.joinpath(_PROMPT_FILE).read_text(encoding="utf-8")
    schema_text = folder.joinpath(_SCHEMA_FILE).read_text(encoding="utf-8")
    return Prompt(
        system=system,
        schema=json.loads(schema_text),
        version=prompt_version(PROMPT_NAME, system, schema_text),
    )


def turns_as_json(turns: Sequence[Turn]) -> str:
    """The conversation as one JSON array: JSON's own escaping keeps what a user typed inside its string.

    Accents and emoji stay as they are instead of being escaped: the model must quote them back exactly.
    """
    return json.dumps(
        [
            {"turn": index, "role": turn.role, "content": _LONE_SURROGATE.sub("�", turn.content)}
            for index, turn in enumerate(turns)
        ],
        ensure_ascii=False,
        separators=(",", ":"),
    )
