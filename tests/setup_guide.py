"""Follow the setup guide: read its blocks, write its files and run its commands in a new folder."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

from nexus_stream.embedded.processes import last_lines

__all__ = ["PLACEHOLDER", "Block", "Newcomer", "blocks"]

PLACEHOLDER = re.compile(r"<([^<>\s]+)>")
_FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_COMMAND_TIMEOUT_SECONDS = 180.0
_EVENT_TIMEOUT_SECONDS = 90.0
_STOP_TIMEOUT_SECONDS = 60.0


@dataclass(frozen=True)
class Block:
    """A fenced block of the guide.

    Attributes:
        language: ``sh`` blocks are run; ``env`` and ``properties`` blocks are files.
        text: The block's content.
        file: The file's name, from the begin of the paragraph above the block.
    """

    language: str
    text: str
    file: str | None


def blocks(page: Path) -> list[Block]:
    """The page's blocks with a language. A block without a language is not run."""
    text = page.read_text(encoding="utf-8")
    found = []
    for match in _FENCE.finditer(text):
        paragraph = text[: match.start()].rstrip().rpartition("\n\n")[2]
        name = re.match(r"`([\w.]+)`", paragraph) if match[1] in {"env", "properties"} else None
        found.append(Block(match[1], match[2], name[1] if name else None))
    return found


class Newcomer:
    """A user with the guide, a folder and a shell.

    Attributes:
        folder: The folder for all files and commands.
    """

    def __init__(self, folder: Path, programs: list[Path], filled_in: dict[str, str]) -> None:
        self.folder = folder
        self._filled_in = filled_in
        path = [str(folder) for folder in (Path(sys.executable).parent, *programs)] + [os.environ["PATH"]]
        self._environment = {"PATH": os.pathsep.join(path), "HOME": str(folder), "LANG": "C.UTF-8"}

    def write(self, block: Block) -> None:
        """Write the file of a block, with its placeholders filled in."""
        assert block.file is not None
        (self.folder / block.file).write_text(
            PLACEHOLDER.sub(lambda match: self._filled_in[match[1]], block.text), encoding="utf-8"
        )

    async def type(self, commands: str) -> str:
        """Run a block without changes and return its output. The test fails if a command fails or does not end."""
        answer = await asyncio.to_thread(
            subprocess.run,
            ["sh", "-e", "-c", commands],
            cwd=self.folder,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_COMMAND_TIMEOUT_SECONDS,
        )
        assert answer.returncode == 0, f"{commands}\n{answer.stdout[-6000:]}\n{answer.stderr[-6000:]}\n{self._logs()}"
        return str(answer.stdout)

    async def type_until(self, commands: str, shown: str) -> None:
        """Run a block again and again until its output contains ``shown``."""
        deadline = time.monotonic() + _EVENT_TIMEOUT_SECONDS
        while shown not in (printed := await self.type(commands)):
            assert time.monotonic() < deadline, f"{commands}\n{printed}\n{self._logs()}"
            await asyncio.sleep(0.5)

    def running(self) -> list[psutil.Process]:
        """The running processes of the guide's pid files."""
        found = []
        for file in (self.folder / "logs").glob("*.pid"):
            try:
                process = psutil.Process(int(file.read_text()))
                if process.status() != psutil.STATUS_ZOMBIE and Path(process.cwd()) == self.folder.resolve():
                    found.append(process)
            except psutil.Error:
                continue
        return found

    async def wait_until_all_ended(self) -> None:
        """Wait until all processes have ended after SIGTERM."""
        deadline = time.monotonic() + _STOP_TIMEOUT_SECONDS
        while running := self.running():
            assert time.monotonic() < deadline, f"still there: {running}\n{self._logs()}"
            await asyncio.sleep(0.1)

    def kill_all(self) -> None:
        """Kill all remaining processes."""
        for process in self.running():
            process.kill()

    def everything_printed(self) -> str:
        """The text of all logs."""
        return "".join(file.read_text(encoding="utf-8") for file in (self.folder / "logs").glob("*.log"))

    def _logs(self) -> str:
        return "\n".join(f"{file.name}:\n{last_lines(file, 8)}" for file in (self.folder / "logs").glob("*.log"))
