"""Every code with which the gateway refuses a request: ``code`` in the JSON body of the answer.

To: sites, which decide by it; the metrics' label; the OpenAPI document. docs/reference/gateway-errors.md and its
Spanish translation explain each code; a test compares. A code keeps its meaning and its status. New codes may come.
"""

from __future__ import annotations

from enum import StrEnum

__all__ = ["RefusalCode"]


class RefusalCode(StrEnum):
    """A code, with the HTTP status that it always has.

    Attributes:
        status: HTTP status.
    """

    status: int

    def __new__(cls, code: str, status: int) -> RefusalCode:
        """Make a member whose value is the code alone."""
        member = str.__new__(cls, code)
        member._value_ = code
        member.status = status
        return member

    # The request is no HTTP, or none that the gateway serves.
    REQUEST_MALFORMED = "request_malformed", 400
    NOT_FOUND = "not_found", 404
    METHOD_NOT_ALLOWED = "method_not_allowed", 405
    EXPECTATION_FAILED = "expectation_failed", 417
    HEADERS_TOO_LARGE = "headers_too_large", 431

    # Who posts.
    SERVER_KEY_WRONG = "server_key_wrong", 401
    TENANT_NEEDS_KEY = "tenant_needs_key", 403
    TENANT_INVALID = "tenant_invalid", 400
    TOO_MANY_REQUESTS = "too_many_requests", 429

    # The body's transport.
    CONTENT_TYPE_UNSUPPORTED = "content_type_unsupported", 415
    CHARSET_UNSUPPORTED = "charset_unsupported", 415
    ENCODING_UNSUPPORTED = "encoding_unsupported", 415
    BODY_TIMEOUT = "body_timeout", 408
    BODY_INCOMPLETE = "body_incomplete", 400
    BODY_TOO_LARGE = "body_too_large", 413
    RECORD_TOO_LARGE = "record_too_large", 413

    # The body's content.
    BODY_NOT_JSON = "body_not_json", 400
    BODY_NOT_OBJECT = "body_not_object", 400
    BODY_TOO_DEEP = "body_too_deep", 400
    TOO_MANY_ELEMENTS = "too_many_elements", 400
    MESSAGES_REQUIRED = "messages_required", 400
    NO_TEXT = "no_text", 400
    CONVERSATION_INVALID = "conversation_invalid", 400
    SESSION_ID_REQUIRED = "session_id_required", 400
    SESSION_ID_INVALID = "session_id_invalid", 400
    SESSION_ID_PLACEHOLDER = "session_id_placeholder", 400
    SESSION_ID_TOO_LONG = "session_id_too_long", 400

    # The gateway cannot take it now.
    INTERNAL_ERROR = "internal_error", 500
    BROKER_UNAVAILABLE = "broker_unavailable", 503
    MESSAGES_MAY_EXPIRE = "messages_may_expire", 503
    OVERLOADED = "overloaded", 503
    STOPPING = "stopping", 503
