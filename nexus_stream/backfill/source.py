"""What a run reads, and what tells one call from another: a run that was begun goes on with the same input only.

From: the command's arguments. To: intake.py, once; and store.py, as what the next call is compared with.
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
from nexus_stream.backfill.store import Store
from nexus_stream.backfill.topic import take_topic
from nexus_stream.common.moments import parse_moment
from nexus_stream.errors import ConfigurationError
from nexus_stream.settings import Settings

__all__ = ["STDIN", "Source", "digest_of"]

STDIN: Final = "-"
_BLOCK_BYTES: Final = 1024 * 1024
_INPUT: Final = "input"


@dataclass(frozen=True, slots=True)
class Source:
    """A file, standard input or the topic.

    Attributes:
        file: Its path, or ``-``; None for the topic.
        since: Of the topic, as it was written: ``2h`` is the same call an hour later.
        as_of: When lines without ``enqueuedAt`` were said, as it was written.
    """

    file: str | None
    since: str | None = None
    as_of: str | None = None

    async def take(self, store: Store, settings: Settings) -> tuple[Intake, int]:
        """Take everything in; returns it, and how many records were left to the enrichers. In a transaction."""
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

    def require_same(self, store: Store, directory: Path) -> None:
        """Refuse to go on with a run of another input: this one would be passed over in silence.

        Raises:
            ConfigurationError: names the run and the ways out.
        """
        known = store.get(_INPUT)
        if known is None or known == self._identity("" if self.file is None else digest_of(self.file)):
            return
        raise ConfigurationError(
            f"--name: the run {directory.name}, begun {store.get('loaded')}, is not finished, and it was begun with "
            f"another input or another --since or --as-of. Finish it with its own call, or give this one a --name of "
            f"its own. Removing {directory} forgets that run, with what it has paid for."
        )

    def _identity(self, content: str) -> str:
        return f"topic since {self.since}" if self.file is None else f"sha256 {content} as of {self.as_of}"

    def _said_at_ms(self, file: str, now_ms: int) -> int:
        as_of = self._moment(self.as_of)
        if as_of is not None:
            return round(as_of.timestamp() * 1000)
        # Older than what is said meanwhile on the site, which must win.
        return now_ms if file == STDIN else round(Path(file).stat().st_mtime * 1000)

    @staticmethod
    def _moment(text: str | None) -> datetime | None:
        return None if text is None else parse_moment(text, datetime.now(UTC))


def digest_of(file: str) -> str:
    """SHA-256 of a file's content, or of standard input's, which is then read."""
    hasher = hashlib.sha256()
    with click.open_file(file, "rb") as blocks:
        while block := blocks.read(_BLOCK_BYTES):
            hasher.update(block)
    return hasher.hexdigest()


def _hashed(lines: Iterable[bytes], hasher: hashlib._Hash) -> Iterator[bytes]:
    for line in lines:
        hasher.update(line)
        yield line
