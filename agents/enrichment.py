"""The enricher's agent: hands every record of ``nexus-prospect-ingestion`` to the stage, in order.

The stage (nexus_stream/enrichment/stage.py) does the work in tasks of its own and owns the offsets: the topic is
declared with ``acks=False``. So the loop waits only while a bound on pending work is reached.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from nexus_stream.enrichment.stage import Enrichment

if TYPE_CHECKING:
    from faust.types import AppT, StreamT, TopicT

__all__ = ["declare"]


def declare(app: AppT, topic: TopicT, stage: Enrichment) -> None:
    """Declare the agent ``enrich`` on the ingestion topic."""

    async def enrich(stream: StreamT[Any]) -> None:
        # Every stream has noack(), but Faust's StreamT lacks it.
        async for event in cast(Any, stream).noack().events():
            await stage.take(event.message)

    app.agent(topic, name="enrich", concurrency=1)(enrich)
