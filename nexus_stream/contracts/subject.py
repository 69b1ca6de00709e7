"""What the ids and hashes in erased events and session commands look like: as PostgreSQL takes them.

To: erased.py, session_command.py. A value that the database refuses must be told where the record is read.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final

__all__ = ["HASH_PATTERN", "NO_NUL_PATTERN", "require_iso"]

HASH_PATTERN: Final = "^[0-9a-f]{64}$"
NO_NUL_PATTERN: Final = r"^[^\x00]*$"


def require_iso(text: str) -> str:
    """The text, if it is a moment in ISO 8601.

    Raises:
        ValueError: it is none.
    """
    datetime.fromisoformat(text)
    return text
