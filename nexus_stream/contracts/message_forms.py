"""Read the turns of a chat, in whatever form a site's framework keeps them. Pure.

The forms, read in 2026-12 in the documentation of each:

* OpenAI Chat Completions and Responses, Anthropic, Bedrock: ``content`` is a text, or a list of parts with a ``type``.
* AI SDK 4 to 6, TanStack AI: ``parts``. AI SDK 4 also has ``content``.
* Gemini: ``parts`` without a type, and the role ``model``.
* LangChain: ``type`` ``human`` or ``ai`` instead of a role; also as stored (``data``) and serialized (``kwargs``).
* Cohere (``CHATBOT``, ``message``), Dialogflow (``participantRole``), Rasa (``event``, ``text``), Botpress
  (``direction``, ``payload``), chatscope (``direction``, ``message``), LlamaIndex (``blocks``), ShareGPT (``from``,
  ``value``), Flowise (``apiMessage``).

Text parts are joined. Everything else is left out and counted by kind.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, Literal, NamedTuple

__all__ = [
    "LEFT_OUT_KINDS",
    "MAX_EXACT_FLOAT",
    "PlainTurn",
    "as_list",
    "count_elements",
    "number_text",
    "read_turns",
]

Speaker = Literal["user", "assistant"]

# What is left out of a conversation. The list is fixed, because metrics have the kind as a label.
LEFT_OUT_KINDS: Final = (
    "audio",
    "data",
    "empty",
    "file",
    "image",
    "other",
    "reasoning",
    "source",
    "system",
    "tool",
)


def _words(*lines: str) -> frozenset[str]:
    return frozenset(word for line in lines for word in line.split())


_USER: Final = _words(
    "user human customer visitor client end_user enduser guest lead prospect buyer caller incoming inbound",
    "usuario cliente visitante",
)
_ASSISTANT: Final = _words(
    "assistant ai bot model chatbot agent automated_agent human_agent operator support outgoing outbound gpt",
    "chatgpt claude gemini llm api asistente agente",
)
# Without a role, the first of these keys that names a known speaker counts.
_SPEAKER_KEYS: Final = ("type", "sender", "from", "author", "participantRole", "direction", "event")
_KINDS: Final[Mapping[str, str]] = {
    "system": "system",
    "developer": "system",
    "tool": "tool",
    "function": "tool",
    "function_call": "tool",
    "function_call_output": "tool",
    "dynamic_tool": "tool",
    "functioncall": "tool",
    "functionresponse": "tool",
    "tooluse": "tool",
    "toolresult": "tool",
    "reasoning": "reasoning",
    "thinking": "reasoning",
    "redacted_thinking": "reasoning",
    "file": "file",
    "document": "file",
    "input_file": "file",
    "binary": "file",
    "video": "file",
    "media": "file",
    "inline_data": "file",
    "inlinedata": "file",
    "filedata": "file",
    "image": "image",
    "image_url": "image",
    "input_image": "image",
    "audio": "audio",
    "input_audio": "audio",
    "output_audio": "audio",
    "source": "source",
    "citation": "source",
    "search_result": "source",
    "data": "data",
}
# Types of a part that begin or end so: ``tool-getWeather`` (AI SDK), ``web_search_call`` (OpenAI).
_KIND_PREFIXES: Final = (("tool_", "tool"), ("data_", "data"), ("source_", "source"))
_KIND_SUFFIXES: Final = (("_call", "tool"), ("_tool_result", "tool"), ("_call_output", "tool"), ("_tool_use", "tool"))
_TEXT_TYPES: Final = frozenset({"text", "input_text", "output_text", "plain_text", "plain", "markdown", "md", "string"})
# The AI SDK marks the start of a step with a part that holds nothing.
_NOTHING: Final = frozenset({"step_start"})
# The first of these keys with text counts.
_TEXT_KEYS: Final = ("content", "parts", "blocks", "text", "message", "payload", "data", "value", "body", "msg")
_PART_KEYS: Final = ("text", "content", "value")
_TOOL_KEYS: Final = ("tool_calls", "toolInvocations", "function_call", "functionCall", "functionResponse", "toolUse")
_MAX_DEPTH = 3
# Above it, two different integers may be one float.
MAX_EXACT_FLOAT: Final = 2**53
_MAX_NUMBER_BITS = 8192
_MAX_TIMESTAMP_CHARS = 64
_WORD_BREAKS = re.compile(r"[\s\-]+")
_CLASS_SUFFIX = re.compile(r"message(chunk)?$")


class PlainTurn(NamedTuple):
    """One turn in the plain form. ``timestamp`` is what the site wrote: a short text, a number, or None."""

    role: Speaker
    content: str
    timestamp: str | int | float | None = None


def count_elements(messages: Sequence[Any]) -> int:
    """The number of messages and of their parts."""
    return len(messages) + sum(
        len(value)
        for message in messages
        if isinstance(message, dict)
        for key in ("content", "parts", "blocks")
        if isinstance(value := message.get(key), list)
    )


def read_turns(messages: Sequence[Any], left_out: Counter[str]) -> Iterator[PlainTurn]:
    """The turns of user and assistant that hold text, in order.

    Args:
        messages: The list as the site sent it. A turn in the plain form comes back unchanged.
        left_out: Counts by kind (`LEFT_OUT_KINDS`) what is not read.
    """
    for message in messages:
        if not isinstance(message, dict) or not message:
            left_out["other"] += 1
            continue
        speaker = _speaker(message)
        if speaker in _USER:
            role: Speaker = "user"
        elif speaker in _ASSISTANT:
            role = "assistant"
        else:
            left_out[_kind_of(speaker)] += 1
            continue
        found: Counter[str] = Counter()
        content = _text_of(_unwrapped(message), found)
        if not content.strip():
            found = found or Counter({_kind_without_text(message): 1})
        else:
            yield PlainTurn(role, content, _timestamp(message.get("timestamp")))
        left_out.update(found)


def _speaker(message: Mapping[str, Any]) -> str:
    """The role in lower case, or the kind of an element that has none; empty if neither is known."""
    if _is_constructor(message):
        # LangChain: the last name of the class's path.
        return _word(message["id"][-1])
    role = _speaker_word(message, "role")
    if role:
        return role if role in _USER or role in _ASSISTANT or _kind_of(role) != "other" else ""
    words = [word for key in _SPEAKER_KEYS if (word := _speaker_word(message, key))]
    speakers = [word for word in words if word in _USER or word in _ASSISTANT]
    # An element without a speaker may name its kind.
    return (speakers or [word for word in words if _kind_of(word) != "other"] or [""])[0]


def _speaker_word(message: Mapping[str, Any], key: str) -> str:
    value = message.get(key)
    word = _word(value.get("role") if isinstance(value, dict) else value)
    if key == "direction" and "message" in message:
        # chatscope's widgets speak of the page: what goes out is the user's. Botpress speaks of the bot.
        return {"outgoing": "user", "incoming": "assistant"}.get(word, word)
    return word


def _is_constructor(message: Mapping[str, Any]) -> bool:
    path = message.get("id")
    return message.get("type") == "constructor" and isinstance(path, list) and bool(path)


def _word(value: object) -> str:
    if not isinstance(value, str) or len(value) > 64:
        return ""
    return _CLASS_SUFFIX.sub("", _WORD_BREAKS.sub("_", value.strip().lower()))


def _unwrapped(message: Mapping[str, Any]) -> Mapping[str, Any]:
    arguments = message.get("kwargs")
    return arguments if _is_constructor(message) and isinstance(arguments, dict) else message


def _text_of(holder: Mapping[str, Any], found: Counter[str], depth: int = 0) -> str:
    """The text of a turn: that of the first key which has some."""
    for key in _TEXT_KEYS:
        value = as_list(holder.get(key))
        if (scalar := _scalar_text(value)) is not None:
            text = scalar
        elif isinstance(value, list):
            text = _joined(value, found)
        elif isinstance(value, dict) and depth < _MAX_DEPTH:
            text = _part_text(value, found) or _text_of(value, found, depth + 1)
        else:
            continue
        if text.strip():
            return text
    return ""


def _joined(parts: Sequence[Any], found: Counter[str]) -> str:
    scalars = ((part, _scalar_text(part)) for part in parts)
    texts = (_part_text(part, found) if scalar is None else scalar for part, scalar in scalars)
    return "\n".join(text for text in texts if text.strip())


def _part_text(part: object, found: Counter[str]) -> str:
    """The text of a part; empty if it is of another kind, which is then counted."""
    if not isinstance(part, dict):
        found["other"] += part is not None
        return ""
    if not part:
        return ""
    # LlamaIndex calls it block_type.
    type_ = _word(part.get("type") or part.get("block_type"))
    if type_ in _NOTHING:
        return ""
    if part.get("thought") is True:
        # Gemini's reasoning looks like its text.
        found["reasoning"] += 1
        return ""
    if type_ and type_ not in _TEXT_TYPES:
        found[_kind_of(type_)] += 1
        return ""
    for key in _PART_KEYS:
        text = part.get(key)
        if isinstance(text, dict):
            # OpenAI Assistants: {"type": "text", "text": {"value": ...}}
            text = text.get("value")
        if (scalar := _scalar_text(text)) is not None:
            return scalar
    if not type_:
        # Gemini and Bedrock: the only key names the kind.
        found[next((kind for key in part if (kind := _kind_of(_word(key))) != "other"), "other")] += 1
    return ""


def as_list(value: Any) -> Any:
    """A list that PHP wrote as an object: ``array_filter`` leaves gaps in its numbers. Other values stay."""
    if not isinstance(value, dict) or not value or not all(isinstance(key, str) and key.isdecimal() for key in value):
        return value
    return [value[key] for key in sorted(value, key=lambda key: (len(key.lstrip("0")), key.lstrip("0")))]


def _scalar_text(value: object) -> str | None:
    """A text, or a number as text: PHP writes a phone as a number (``JSON_NUMERIC_CHECK``). None for all else."""
    if isinstance(value, str):
        return value
    return number_text(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def number_text(value: float) -> str:
    """A number as JavaScript writes it, so 7.0 is 7."""
    if isinstance(value, float) and value.is_integer() and abs(value) < MAX_EXACT_FLOAT:
        value = int(value)
    if isinstance(value, int) and value.bit_length() > _MAX_NUMBER_BITS:
        # Python converts no integer of over 4,300 digits.
        return f"{value:x}"
    return str(value)


def _kind_of(word: str) -> str:
    kind = _KINDS.get(word)
    if kind is not None:
        return kind
    named = [kind for prefix, kind in _KIND_PREFIXES if word.startswith(prefix)]
    named += [kind for suffix, kind in _KIND_SUFFIXES if word.endswith(suffix)]
    return named[0] if named else "other"


def _kind_without_text(message: Mapping[str, Any]) -> str:
    return "tool" if any(message.get(key) for key in _TOOL_KEYS) else "empty"


def _timestamp(value: object) -> str | int | float | None:
    if isinstance(value, str):
        return value if 0 < len(value) <= _MAX_TIMESTAMP_CHARS else None
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None
