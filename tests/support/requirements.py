"""Optional parts of the machine that some tests need: run when there, say so when not, fail when required.

From: fixtures, which know how to look for their part. To: pytest. ``NEXUS_REQUIRE=kafka,node`` (comma-separated, as CI
sets it) turns "skipped, because ..." into a failure for the parts it names.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Literal, get_args

import pytest

__all__ = ["Part", "require", "required_parts"]

Part = Literal["kafka", "node", "postgres15", "pgbouncer", "browser", "redis", "prometheus", "history"]
_VARIABLE = "NEXUS_REQUIRE"


def required_parts(environ: Mapping[str, str]) -> frozenset[str]:
    """The parts that must be there.

    Raises:
        ValueError: a part that does not exist; a typing error must not turn a required tier off.
    """
    parts = frozenset(part.strip() for part in environ.get(_VARIABLE, "").split(",") if part.strip())
    if unknown := parts - set(get_args(Part)):
        raise ValueError(
            f"{_VARIABLE}: no such part: {', '.join(sorted(unknown))}; there are {', '.join(get_args(Part))}"
        )
    return parts


def require(part: Part, reason_missing: str | None, environ: Mapping[str, str] = os.environ) -> None:
    """Go on when the part is there; else skip the test, or fail it when ``NEXUS_REQUIRE`` names the part.

    Args:
        part: What the caller looked for.
        reason_missing: None when it is there, else what is missing, for a person who wants to install it.
        environ: The process's environment.
    """
    required = part in required_parts(environ)
    if reason_missing is None:
        return
    if required:
        pytest.fail(f"{_VARIABLE} names {part}, which is missing: {reason_missing}", pytrace=False)
    pytest.skip(f"{part} is missing: {reason_missing}")
