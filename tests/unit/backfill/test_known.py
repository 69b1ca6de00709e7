"""What becomes of a conversation that the session table knows."""

from __future__ import annotations

from nexus_stream.backfill.known import _OUTCOMES
from tables.session_state import Verdict


def test_every_verdict_has_an_outcome() -> None:
    # These are sent: to be read, or to be told again without a model.
    assert set(Verdict) == {*_OUTCOMES, Verdict.NEW, Verdict.FINGERPRINT, Verdict.RETOLD}
