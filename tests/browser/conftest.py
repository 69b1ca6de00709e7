from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.browser.stage import Stage, Visit, browser, missing, stage
from tests.stack import eventually
from tests.support.requirements import require

Open = Callable[..., Any]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All browser tests share one loop, because they share one browser."""
    for item in items:
        if Path(__file__).parent in item.path.parents and asyncio.iscoroutinefunction(getattr(item, "obj", None)):
            item.add_marker(pytest.mark.asyncio(loop_scope="session"), append=False)


@pytest.fixture(scope="session")
def show(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """The product with its demo's conversations, sixty more and a few failures."""
    require("browser", missing())
    with stage(tmp_path_factory.mktemp("stage")) as one:
        for number in range(60):
            one.post(f"many-{number:03}", f"Hola, soy Camila Torres, visita {number}", fingerprint=f"fp-many-{number}")
        one.post_demo()
        asyncio.run(one.fail_some())
        yield one


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def chromium(show: Stage, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Any]:
    """One browser, once everything that was posted is in the database."""

    async def stored() -> bool:
        (row,) = await show.stack.fetch("SELECT count(*) AS rows FROM prospect_sessions")
        return bool(row["rows"] >= 67)

    await eventually(stored, seconds=120, what="all sessions in the database")
    async with browser(tmp_path_factory.mktemp("home")) as one:
        yield one


@pytest.fixture
def visit(chromium: Any) -> Open:
    """Opens a window; when the block ends, nothing that must not happen may have happened in it."""

    @asynccontextmanager
    async def begin(**options: Any) -> AsyncIterator[Visit]:
        one = await Visit.begin(chromium, **options)
        try:
            yield one
        except BaseException:
            await one.context.close()
            raise
        await one.end()

    return begin
