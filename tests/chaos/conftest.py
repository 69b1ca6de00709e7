"""One broker and database of each kind for all chaos tests, started when the first row needs it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from tests.chaos.environment import BrokerKind, Environment, missing
from tests.support.requirements import require


@pytest.fixture(scope="package")
def environment_of(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[BrokerKind], Environment]]:
    """The environment with that broker."""
    running: dict[BrokerKind, Environment] = {}
    with ExitStack() as stack:

        def of(kind: BrokerKind) -> Environment:
            if kind == "kafka":
                require("kafka", missing(kind))
            if kind not in running:
                folder = tmp_path_factory.mktemp(f"chaos-{kind}")
                # Above it pytest's own folders are closed to the database server's user.
                folder.parent.chmod(0o755)
                running[kind] = stack.enter_context(Environment(kind, folder))
            return running[kind]

        yield of
