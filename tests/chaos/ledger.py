"""What was sent and accepted, and so what must be found: one line a session, one a person, one a poisoned record.

From: the load, which notes a snapshot only after the broker (or the gateway's 202) has it. To: the verdict.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from typing import Any

from nexus_stream.contracts.conversation import Conversation, digest

__all__ = ["Poison", "SentLedger", "SentSession"]

_LETTERS = "abcdefghij"


def _name_of(number: int) -> str:
    return "Ana " + "".join(_LETTERS[int(digit)] for digit in f"{number:05d}").capitalize()


@dataclass(slots=True)
class SentSession:
    """One chat: its snapshots grow by two turns, and each names an e-mail address nobody else has.

    Attributes:
        number: Which one.
        fingerprint: The person's; from the first snapshot, or only from the second (``late_fingerprint``).
        accepted: Version of the newest accepted snapshot, 0 for none.
        accepted_at: When that was, Unix seconds.
    """

    number: int
    fingerprint: str
    late_fingerprint: bool = False
    accepted: int = 0
    accepted_at: float = 0.0

    @property
    def session_id(self) -> str:
        """Its id."""
        return f"chat-{self.number}"

    @property
    def name(self) -> str:
        """The name in its first turn."""
        return _name_of(self.number)

    def email(self, version: int) -> str:
        """The marker of one snapshot."""
        return f"c{self.number}.v{version}@example.com"

    def messages(self, version: int) -> list[dict[str, str]]:
        """The turns of one snapshot, from 1 on."""
        turns = [{"role": "user", "content": f"Hola, me llamo {self.name}"}]
        for each in range(1, version + 1):
            turns.append({"role": "assistant", "content": "Gracias. ¿A qué correo te escribo?"})
            turns.append({"role": "user", "content": f"Escríbeme a {self.email(each)}"})
        return turns

    def body(self, version: int) -> dict[str, Any]:
        """The snapshot as the site sends it."""
        body: dict[str, Any] = {"messages": self.messages(version), "sessionId": self.session_id}
        if version > 1 or not self.late_fingerprint:
            body["fingerprint"] = self.fingerprint
        return body

    def digest(self, version: int) -> str:
        """The snapshot's digest, as the product computes it."""
        return digest(Conversation.model_validate(self.body(version)))


@dataclass(frozen=True, slots=True)
class Poison:
    """A record that must become a dead letter; its key is found again on the letter.

    ``person`` is the person of a chat that the model refuses: the rules read it, so it has a row too.
    """

    key: bytes
    value: bytes
    person: str | None = None


@dataclass
class SentLedger:
    """Everything that was accepted."""

    sessions: dict[str, SentSession] = field(default_factory=dict)
    poison: dict[bytes, Poison] = field(default_factory=dict)
    snapshots: int = 0

    def accept(self, session: SentSession, version: int) -> None:
        """Note an accepted snapshot."""
        self.sessions[session.session_id] = session
        session.accepted, session.accepted_at = version, time.time()
        self.snapshots += 1

    def accept_poison(self, poison: Poison) -> None:
        """Note an accepted record that must become a dead letter."""
        self.poison[poison.key] = poison
        self.snapshots += 1

    @property
    def people(self) -> set[str]:
        """Every person there must be a row of: by fingerprint, or by session while none was told."""
        return self.refused | {
            session.fingerprint if session.accepted > 1 or not session.late_fingerprint else f"session:{session_id}"
            for session_id, session in self.sessions.items()
        }

    @property
    def refused(self) -> set[str]:
        """The people of chats that the model refuses."""
        return {poison.person for poison in self.poison.values() if poison.person is not None}

    @staticmethod
    def poisoned(number: int, refused_word: str) -> Poison:
        """One of three kinds, in turn: no JSON, no conversation, refused by the model."""
        key = f"poison-{number}"
        person: str | None = None
        if number % 3 == 0:
            value = b'{"messages": [{"role": "user", "content": "Hola'
        elif number % 3 == 1:
            value = json.dumps({"messages": [], "sessionId": key}).encode()
        else:
            person = key
            turn = {"role": "user", "content": f"Hola, quiero {refused_word} numero {number}"}
            value = json.dumps({"messages": [turn], "sessionId": key, "fingerprint": key}).encode()
        return Poison(key.encode(), value, person)
