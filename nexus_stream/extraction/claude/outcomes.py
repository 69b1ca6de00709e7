"""The outcome of a request to Claude in one word, for the metrics."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from nexus_stream.errors import ConfigurationError, ModelRefusedError, ModelUnavailableError, Reason, SpendLimitError
from nexus_stream.extraction.claude.answer import AnswerInvalidError, parse_answer
from nexus_stream.extraction.claude.errors import Rejected
from nexus_stream.extraction.claude.reply import Reply, complete_text
from nexus_stream.extraction.observer import CallOutcome

__all__ = ["outcome_of"]

_BY_KIND: Final[Mapping[str, CallOutcome]] = {
    "timeout": "timeout",
    "connection": "connection",
    "bad_answer": "bad_answer",
    "408": "timeout",
    "429": "rate_limited",
    "503": "overloaded",
    "529": "overloaded",
}


def outcome_of(answer: Reply | Rejected | ModelUnavailableError | ConfigurationError) -> CallOutcome:
    """Return the word for an answer or for a failure."""
    match answer:
        case Reply():
            return _of_reply(answer)
        case Rejected():
            return "rejected"
        case SpendLimitError():
            return "spend_limit"
        case ModelUnavailableError():
            return _BY_KIND.get(answer.kind, "error")
        case _:
            return "error"


def _of_reply(reply: Reply) -> CallOutcome:
    try:
        # Parsed a second time: that takes microseconds after a call of seconds, and the check stays in one place.
        parse_answer(complete_text(reply))
    except ModelRefusedError as error:
        return "truncated" if error.reason is Reason.MODEL_TRUNCATED else "refused"
    except AnswerInvalidError:
        return "bad_answer"
    return "ok"
