"""Read the dead-letter topic from its beginning to a fixed end.

A read commits no offsets: any number of operators and consoles can read the same records.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

from nexus_stream.dead_letters.letter import Letter, Mark, read_record
from nexus_stream.kafka.reading import Ends, TopicLog
from nexus_stream.settings import Settings

__all__ = ["DeadLetterLog"]


class DeadLetterLog(TopicLog):
    """Read the topic. Use as an async context manager.

    Args:
        settings: The settings with broker and topic.
    """

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings, settings.dead_letter_topic)

    async def entries(self, ends: Ends) -> AsyncIterator[Letter | Mark | None]:
        """Yield every record up to ``ends``, by partition and offset. Yield None for a record of another kind.

        Raises:
            BrokerUnavailableError: the broker stopped answering.
        """
        await self.rewind()
        for number, end in sorted(ends.items()):
            async for record in self.read({number: end}):
                if record.offset < end:
                    headers = tuple((name, raw or b"") for name, raw in record.headers)
                    yield read_record(number, record.offset, record.timestamp, record.key, record.value, headers)
