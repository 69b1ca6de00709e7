"""In one word how a request to Claude ended, for counting.

From: claude.py. To: its `ExtractionObserver`.
"""

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
    """The word for an answer, or for what came instead of one."""
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
        # A second time: microseconds beside the seconds it came from, and one place knows what an answer is worth.
        parse_answer(complete_text(reply))
    except ModelRefusedError as error:
        return "truncated" if error.reason is Reason.MODEL_TRUNCATED else "refused"
    except AnswerInvalidError:
        return "bad_answer"
    return "ok"
