"""The input of a run, and its identity: an unfinished run may only continue with the same input.

The input is loaded once. Its identity is stored and compared with that of the next command.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import click

from nexus_stream.backfill.intake import Intake, take_lines
from nexus_stream.backfill.store import RunStore
from nexus_stream.backfill.topic import take_topic
from nexus_stream.contracts.moments import parse_moment
from nexus_stream.errors import ConfigurationError
from nexus_stream.extraction.extractor import MadeBy
from nexus_stream.settings import Settings

__all__ = ["STDIN", "BackfillSource", "digest_of"]

STDIN: Final = "-"
_BLOCK_BYTES: Final = 1024 * 1024
_INPUT: Final = "input"
_MADE_BY: Final = "made_by"


@dataclass(frozen=True, slots=True)
class BackfillSource:
    """A file, standard input or the topic.

    Attributes:
        file: The file's path, or ``-``; None for the topic.
        since: Start on the topic, as typed: ``2h`` is still the same input an hour later.
        as_of: Time of lines without ``enqueuedAt``, as typed.
        again: Whether records are read again: another run than that of the same topic without it.
    """

    file: str | None
    since: str | None = None
    as_of: str | None = None
    again: bool = False

    async def take(self, store: RunStore, settings: Settings) -> tuple[Intake, int]:
        """Load the input, in a transaction. Return the intake and the number of records left to the enrichers."""
        now_ms = round(time.time() * 1000)
        intake = Intake(store, settings, now_ms)
        if self.file is None:
            left = await take_topic(intake, settings, self._moment(self.since))
            store.put(_INPUT, self._identity(""))
            return intake, left
        hasher = hashlib.sha256()
        with click.open_file(self.file, "rb") as lines:
            take_lines(intake, _hashed(lines, hasher), self._said_at_ms(self.file, now_ms))
        store.put(_INPUT, self._identity(hasher.hexdigest()))
        return intake, 0

    def require_same(self, store: RunStore, directory: Path) -> None:
        """Refuse to continue a run that has another input: the new input would be ignored silently.

        Raises:
            ConfigurationError: the message names the run and the solutions.
        """
        known = store.get(_INPUT)
        if known is None or known == self._identity("" if self.file is None else digest_of(self.file)):
            return
        raise ConfigurationError(
            f"--name: the run {directory.name}, started {store.get('loaded')}, is not finished, and it has another "
            f"input, --since or --as-of. Finish it with its own command, or give this run another --name. "
            f"If you remove {directory}, that run and its paid answers are lost."
        )

    @staticmethod
    def require_same_model(store: RunStore, directory: Path, made_by: MadeBy) -> None:
        """Note who answers the run. Refuse to continue a run that has asked another model, or with another prompt.

        Raises:
            ConfigurationError: the message says what to do.
        """
        if not store.has_asked():
            with store.transaction():
                store.put(_MADE_BY, made_by.label)
            return
        known = store.get(_MADE_BY) or "the model and prompt of an earlier version of nexus-stream"
        if known == made_by.label:
            return
        raise ConfigurationError(
            f"--name: the run {directory.name}, started {store.get('loaded')}, has asked {known}, and this version and "
            f"NEXUS_CLAUDE_MODEL would ask {made_by.label}. The answers would get the wrong labels. Finish the run "
            "with the model and the version that started it, or give this run another --name. "
            f"If you remove {directory}, that run and its paid answers are lost."
        )

    def _identity(self, content: str) -> str:
        if self.file is None:
            return f"topic since {self.since}{' again' if self.again else ''}"
        return f"sha256 {content} as of {self.as_of}"

    def _said_at_ms(self, file: str, now_ms: int) -> int:
        as_of = self._moment(self.as_of)
        if as_of is not None:
            return round(as_of.timestamp() * 1000)
        # The file's time is older than new chats on the site, which must win.
        return now_ms if file == STDIN else round(Path(file).stat().st_mtime * 1000)

    @staticmethod
    def _moment(text: str | None) -> datetime | None:
        return None if text is None else parse_moment(text, datetime.now(UTC))


def digest_of(file: str) -> str:
    """Compute the SHA-256 of a file's content. ``-`` reads standard input to its end."""
    hasher = hashlib.sha256()
    with click.open_file(file, "rb") as blocks:
        while block := blocks.read(_BLOCK_BYTES):
            hasher.update(block)
    return hasher.hexdigest()


def _hashed(lines: Iterable[bytes], hasher: hashlib._Hash) -> Iterator[bytes]:
    for line in lines:
        hasher.update(line)
        yield line
