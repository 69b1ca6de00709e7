"""The sink's agent: hands every record of ``prospects-enriched`` to the stage, in order.

The stage (nexus_stream/supabase/stage.py) writes in batches and owns the offsets: the topic is declared with
``acks=False``. So the loop waits only while a bound on pending work is reached. The sink is an app of its own, because
a slow database must not stall enrichment: Faust pauses a whole app at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from nexus_stream.supabase.stage import Sink

if TYPE_CHECKING:
    from faust.types import AppT, StreamT, TopicT

__all__ = ["declare"]


def declare(app: AppT, topic: TopicT, stage: Sink) -> None:
    """Declare the agent ``store`` on the enriched topic."""

    async def store(stream: StreamT[Any]) -> None:
        # Every stream has noack(), but Faust's StreamT lacks it.
        async for event in cast(Any, stream).noack().events():
            await stage.take(event.message)

    app.agent(topic, name="store", concurrency=1)(store)
