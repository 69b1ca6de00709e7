"""The exceptions of nexus_stream.

* NexusError
  + RetryableError               wait and try the same record again; may have retry_after_seconds
    - BrokerUnavailableError     the broker did not acknowledge in time
    - DatabaseUnavailableError   PostgreSQL unreachable, restarting, overloaded or read-only
    - ModelUnavailableError      Claude limited, overloaded, slow or unreachable
      . SpendLimitError          the account may spend no more until its owner raises a limit
      . BudgetExhaustedError     our own cap on USD per hour or day is reached
        , BudgetReservedError    the rest of the cap is reserved for running calls
  + PermanentError               the same record fails the same way; becomes a dead letter with its reason
    - DecodeError                the bytes are not a conversation, or over a limit
    - ModelRefusedError          Claude declined, or stopped before the answer was complete
    - ModelAnswerError           the answer does not fit the schema, also after a second call
    - OverBudgetError            one call could cost more than our whole cap
    - RowRejectedError           PostgreSQL refused this one row
  + ConfigurationError           stop and say what to fix; dead-letter nothing
    - AccessDeniedError          the broker refuses the login or a permission
    - TopicMismatchError         topics missing, or not as declared
    - StateVersionError          the table was written by a newer version
    - EarlierCheckoutError       the database was made by migrations that were replaced since
  + StalledError                 the worker has records to read but makes no progress; a supervisor should restart it
  + PartitionLostError           the partition belongs to another worker now; drop the work
  + EmbeddedServiceError         a process of ``nexus dev`` did not start or died; the message holds its last lines

Keep the driver's own error as ``__cause__``. Messages name topic, partition and offset, never a person's data.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Self

__all__ = [
    "AccessDeniedError",
    "BrokerUnavailableError",
    "BudgetExhaustedError",
    "BudgetReservedError",
    "ConfigurationError",
    "DatabaseUnavailableError",
    "DecodeError",
    "EarlierCheckoutError",
    "EmbeddedServiceError",
    "ModelAnswerError",
    "ModelRefusedError",
    "ModelUnavailableError",
    "NexusError",
    "NotWantedError",
    "OverBudgetError",
    "PartitionLostError",
    "PermanentError",
    "Reason",
    "RetryableError",
    "RowRejectedError",
    "StalledError",
    "StateVersionError",
    "TopicMismatchError",
]


class Reason(StrEnum):
    """Why a message became a dead letter: the value of its ``nexus-reason`` header.

    docs/reference/errors.md lists them with cause and fix; a test compares the two.
    """

    UNREADABLE = "unreadable"
    NOT_JSON = "not_json"
    WRONG_SHAPE = "wrong_shape"
    TOO_LARGE = "too_large"
    NO_TEXT = "no_text"
    EMPTY = "empty"
    NOT_HOME = "not_home"
    MODEL_REFUSED = "model_refused"
    MODEL_TRUNCATED = "model_truncated"
    MODEL_ANSWER_INVALID = "model_answer_invalid"
    ATTEMPTS_EXHAUSTED = "attempts_exhausted"
    OVER_BUDGET = "over_budget"
    ROW_REJECTED = "row_rejected"
    INTERNAL_ERROR = "internal_error"


class NexusError(Exception):
    """Base of every error that this package raises on purpose."""


class RetryableError(NexusError):
    """A temporary failure: wait, then try the same record again.

    Attributes:
        retry_after_seconds: The server's Retry-After, already capped; None if there is none.
        is_general: Whether every record would fail now; then the failure counts as no attempt of this record.
    """

    def __init__(self, message: str, *, retry_after_seconds: float | None = None, is_general: bool = False) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds
        self.is_general = is_general


class BrokerUnavailableError(RetryableError):
    """The broker did not acknowledge in time."""


class DatabaseUnavailableError(RetryableError):
    """PostgreSQL is unreachable, restarting, overloaded or read-only.

    Attributes:
        sqlstate_class: The first two characters of the SQLSTATE; ``os`` if no server answered.
    """

    sqlstate_class: str = "os"


class ModelUnavailableError(RetryableError):
    """Claude is limited, overloaded, slow or unreachable.

    Attributes:
        kind: ``timeout``, ``connection``, ``bad_answer`` or an HTTP status; empty if no request was sent.
    """

    kind: str = ""

    def of_kind(self, kind: str) -> Self:
        """Set the kind; returns itself."""
        self.kind = kind
        return self


class SpendLimitError(ModelUnavailableError):
    """The account's spend limit or credit is used up. Only its owner can fix this, so all calls wait."""


class BudgetExhaustedError(ModelUnavailableError):
    """The cap on USD per hour or day is reached (NEXUS_BUDGET_USD_PER_HOUR, NEXUS_BUDGET_USD_PER_DAY)."""


class BudgetReservedError(BudgetExhaustedError):
    """The cap is not reached, but running calls could reach it. There may be room when one of them ends."""


class NotWantedError(RetryableError):
    """No call was made: while the conversation waited, its partition was revoked, or its session was erased."""


class PermanentError(NexusError):
    """The same record will fail the same way: it becomes a dead letter.

    Attributes:
        reason: The dead letter's reason.
    """

    def __init__(self, message: str, *, reason: Reason) -> None:
        super().__init__(message)
        self.reason = reason


class DecodeError(PermanentError):
    """The bytes are not a conversation, or are over a limit.

    Attributes:
        details: The problem of each field, ``{"metadata.consent": "..."}``; never the refused value.
        code: The gateway's code for this problem (contracts/refusal_codes.py).
    """

    def __init__(
        self,
        message: str,
        *,
        reason: Reason,
        details: dict[str, str] | None = None,
        code: str | None = None,
    ) -> None:
        super().__init__(message, reason=reason)
        self.details = details or {}
        self.code = code


class ModelRefusedError(PermanentError):
    """Claude declined to answer, or stopped before the answer was complete."""


class ModelAnswerError(PermanentError):
    """Claude's answer does not fit the schema, also after a second call."""


class OverBudgetError(PermanentError):
    """One call could cost more than the whole cap, so waiting cannot help."""

    def __init__(self, message: str) -> None:
        super().__init__(message, reason=Reason.OVER_BUDGET)


class RowRejectedError(PermanentError):
    """PostgreSQL refused this one row (SQLSTATE classes 22 and 23)."""


class ConfigurationError(NexusError):
    """Stop and say what to fix. Never a dead letter: the record is not at fault."""


class AccessDeniedError(ConfigurationError):
    """The broker refuses the login or a permission. The message says what to set or to grant; it holds no secret."""


class TopicMismatchError(ConfigurationError):
    """Topics are missing or differ from the declared ones. The message names the command that fixes this."""


class StateVersionError(ConfigurationError):
    """The session table holds a record written by a newer version of this software."""


class EarlierCheckoutError(ConfigurationError):
    """The database was made by an earlier checkout, whose migrations were replaced since.

    Attributes:
        found: What the database's ledger says.
        fix: The steps to take, a line each.
    """

    def __init__(self, found: str, fix: str) -> None:
        super().__init__(f"{found}\n{fix}")
        self.found = found
        self.fix = fix


class StalledError(NexusError):
    """The worker has records to read but makes no progress: a supervisor should restart it."""


class PartitionLostError(NexusError):
    """The partition was revoked: another worker owns this record now, so the work is dropped."""


class EmbeddedServiceError(NexusError):
    """A process that ``nexus dev`` or a test started did not become ready, or died."""
