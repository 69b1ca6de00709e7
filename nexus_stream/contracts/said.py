"""What the user said in a snapshot: the user's turns, and the assistant's turns that the user answered.

Two snapshots in which the user said the same are one extraction. The assistant's last turn may still grow, a greeting
may change, a site may trim white space or send only the newest turns: the user said nothing new. A step is one user
turn with the assistant's turns before it, as a short text: 12 hex digits for the user's turn, then 12 for the answered
turns. The second half is missing if those turns are unknown: before the first user turn (a greeting, or turns that the
site cut off), and where our own limits dropped them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import Protocol

__all__ = ["Said", "fits", "said_steps", "words_hashes"]

# Steps, in order.
Said = tuple[str, ...]

# 48 bits each: within one session a chance collision needs about 10^7 turns.
_HASH_BYTES = 6
_USER_CHARS = 2 * _HASH_BYTES


class _Turn(Protocol):
    @property
    def role(self) -> str: ...
    @property
    def content(self) -> str: ...


def said_steps(turns: Iterable[_Turn], *, answers_known_from: int = 0) -> Said:
    """The steps of a conversation.

    Args:
        turns: All turns, of the roles ``user`` and ``assistant``.
        answers_known_from: Right before each turn before this index, assistant turns may be missing.
    """
    steps: list[str] = []
    answered: list[str] = []
    begins_at = 0
    for index, turn in enumerate(turns):
        if turn.role != "user":
            answered.append(turn.content)
            continue
        is_known = bool(steps) and begins_at >= answers_known_from
        steps.append(_hash([turn.content]) + (_hash(answered) if is_known else ""))
        answered, begins_at = [], index + 1
    return tuple(steps)


def _hash(texts: Sequence[str]) -> str:
    # The words alone: white space and the border between two turns of one speaker carry nothing.
    words = " ".join(" ".join(texts).split())
    return hashlib.blake2b(words.encode("utf-8", "surrogatepass"), digest_size=_HASH_BYTES).hexdigest()


def fits(one: str, other: str) -> bool:
    """Whether two steps may be the same. Unknown answered turns fit all."""
    if len(one) == len(other):
        return one == other
    return one[:_USER_CHARS] == other[:_USER_CHARS]


def words_hashes(said: Said, consent: bool | None) -> list[str]:
    """One hash for each step, over the user's turns up to there and the consent.

    The last hash stands for all that the user said. The hashes before stand for the shorter snapshots of that history.
    """
    running = hashlib.blake2b(repr(consent).encode(), digest_size=_HASH_BYTES)
    hashes: list[str] = []
    for step in said:
        running.update(step[:_USER_CHARS].encode())
        hashes.append(running.hexdigest())
    return hashes
