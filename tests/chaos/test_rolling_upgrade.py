"""From the build of the previous commit to this one, process by process under load, and back: nothing lost or doubled.

The old build is a commit's tree, run with the same interpreter: the commit before the working tree's changes, or, when
there are none, the one before the last that changed the product. ``UPGRADE_FROM=<commit>`` names another. Each process
says itself, on the status topic, which build it is: the old tree's version is labelled. The database has this tree's
migrations from the start, as docs/howto/upgrade.md says: the old build must work with them.
"""

from __future__ import annotations

import asyncio
import logging
import os
import subprocess
import tarfile
import time
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import pytest

from nexus_stream import __version__
from nexus_stream.contracts.status import ProcessStatus
from tests.chaos.environment import BrokerKind, Environment
from tests.chaos.row import SHORT, Row, Scenario
from tests.stack import eventually
from tests.support.requirements import require

ROOT = Path(__file__).resolve().parents[2]
PRODUCT = ("nexus_stream", "agents", "tables")
LABEL = "+previous"
PROCESSES = {"gateway": "gateway", "enricher": "enricher", "enricher-2": "enricher", "sink": "sink"}
# Twelve starts and as many group joins, on a machine that does other things too: 105 s where little else runs.
PATIENCE_SECONDS = 480


def _git(*arguments: str) -> bytes:
    """Output of git in this checkout; the checkout may belong to another user than the tests'."""
    command = ["git", "-c", f"safe.directory={ROOT}", "-C", str(ROOT), *arguments]
    return subprocess.run(command, check=True, capture_output=True, timeout=60).stdout


def _previous_commit() -> tuple[str, str | None]:
    """(commit, None), or ("", why there is none)."""
    try:
        if named := os.environ.get("UPGRADE_FROM"):
            return _git("rev-parse", "--verify", f"{named}^{{commit}}").decode().strip(), None
        changed = bool(_git("status", "--porcelain", "--", *PRODUCT).strip())
        commits = _git("rev-list", "-2", "HEAD", "--", *PRODUCT).decode().split()
    except (OSError, subprocess.SubprocessError) as error:
        return "", f"git does not tell a commit before this one ({type(error).__name__})"
    if changed:
        commits.insert(0, _git("rev-parse", "HEAD").decode().strip())
    if len(commits) < 2:
        return "", "this checkout has no history (a shallow clone?), so there is no build to upgrade from"
    return commits[0] if changed else commits[1], None


def _unpack(commit: str, folder: Path) -> None:
    """The commit's tree, with a version of its own."""
    with tarfile.open(fileobj=BytesIO(_git("archive", commit))) as archive:
        archive.extractall(folder, filter="data")
    package = folder / "nexus_stream" / "__init__.py"
    source = package.read_text()
    assert '__version__ = "' in source
    package.write_text(f'{source}\n__version__ += "{LABEL}"\n')


class UpgradeRow(Row):
    """A row whose processes run one build or the other."""

    # Where the next process is started from.
    build = ROOT
    began = 0.0

    def tell(self, what: str) -> None:
        """Note how far it has come, for whoever reads a failure."""
        self.notes.append(f"{time.monotonic() - self.began:.0f} s: {what}")

    def start(self, name: str, kind: str) -> None:
        """Start a process of the current build; so does the supervisor, should it have to."""
        self.stack.variables["PYTHONPATH"] = str(self.build)
        super().start(name, kind)

    async def roll(self, build: Path) -> None:
        """SIGTERM each in turn and start it again from that build, as a deployment does."""
        self.build = build
        for name, kind in PROCESSES.items():
            await self.rest(0.3, 0.8)
            await self.stop(name)
            self.start(name, kind)
            await self.until_ready(name)
            self.tell(f"{name} runs from {build}")
        await self.until_ready(*PROCESSES)
        await self.runs(LABEL if build != ROOT else "")

    async def runs(self, label: str) -> None:
        """Wait until every process has said that it is of that build, and check that it is."""
        pids = {name: self.stack.processes[name].process.pid for name in PROCESSES}

        async def versions() -> dict[str, str] | None:
            records = await self.stack.read_topic(self.stack.settings.status_topic)
            said = [ProcessStatus.model_validate_json(record.value) for record in records if record.value]
            by_pid = {status.pid: status.version for status in said}
            return {name: by_pid[pid] for name, pid in pids.items()} if by_pid.keys() >= set(pids.values()) else None

        said = await eventually(versions, seconds=60, what="all processes told their version")
        self.claim(
            all(version.endswith(LABEL) == bool(label) for version in said.values()),
            f"not all run the build {label or __version__}: {said}",
        )
        self.tell(f"versions: {said}")


@pytest.mark.timeout(PATIENCE_SECONDS + 60)
@pytest.mark.parametrize("broker", ["kafka"])
async def test_upgrade_and_rollback_under_load(
    broker: BrokerKind, environment_of: Callable[[BrokerKind], Environment], tmp_path: Path
):
    commit, missing = _previous_commit()
    require("history", missing)
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    previous = tmp_path / "previous"
    previous.mkdir()
    await asyncio.to_thread(_unpack, commit, previous)

    async def upgrade_and_roll_back(row: Row) -> None:
        assert isinstance(row, UpgradeRow)
        await row.runs(LABEL)
        await row.roll(ROOT)
        await row.rest(0.5, 1.0)
        await row.roll(previous)

    scenario = Scenario(
        "upgrade",
        f"from {commit[:7]} to this tree and back, one process after the other",
        upgrade_and_roll_back,
        processes=PROCESSES,
        through_gateway=True,
    )
    row = UpgradeRow(scenario, SHORT, environment_of(broker), tmp_path / "row")
    row.build = previous
    row.began = time.monotonic()
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            result = await row.run()
    except TimeoutError as error:
        raise AssertionError("\n".join([f"not over after {PATIENCE_SECONDS} s", *row.notes])) from error
    verdict = result.verdict
    story = "\n".join([*verdict.problems, *verdict.timelines, *result.restarts_by_supervisor, *result.notes])
    assert result.passed, f"{scenario.title} on {broker}:\n{story}"
    assert result.restarts_by_supervisor == []
    assert verdict.sent >= SHORT.snapshots
    assert verdict.calls > 0
    # Stopped in order, so nothing was paid for twice.
    assert verdict.repeated_calls == 0
    assert sum("versions:" in note for note in result.notes) == 3
