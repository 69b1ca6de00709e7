"""The output of ``nexus dev``: plain lines, the same in a terminal, a pipe and a file."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import sys
from pathlib import Path

import click

__all__ = ["Terminal", "short_path", "typed"]

_NAME_WIDTH = 10


def typed(command: str) -> str:
    """A ``nexus`` command that works in this shell: with a path if the shell does not find this ``nexus``."""
    program = Path(sys.executable).with_name("nexus")
    found = shutil.which("nexus")
    if found is None or Path(found).resolve() != program.resolve():
        command = command.replace("nexus", shlex.quote(short_path(program)), 1)
    return command


def short_path(path: Path) -> str:
    """The path relative to the working directory, if it is below that directory."""
    relative = os.path.relpath(path)
    return str(path) if relative.startswith("..") else relative


class Terminal:
    """Prints lines. Errors of a closed terminal are ignored, so that the processes can still be stopped."""

    def say(self, text: str = "", *, error: bool = False) -> None:
        """Print one or more lines."""
        # click removes colours if there is no terminal.
        try:
            click.echo(text, err=error)
        except OSError:
            # The pipe or the terminal is closed. Without this, Python would fail again when it flushes at exit.
            stream = sys.stderr if error else sys.stdout
            with contextlib.suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())

    def step(self, name: str, elapsed_seconds: float, detail: str) -> None:
        """Print that a step is done, with its time and its result."""
        self.say(f"{click.style('ok', fg='green')}  {name:<{_NAME_WIDTH}} {elapsed_seconds:5.1f} s  {detail}")

    def repeat(self, name: str, line: str) -> None:
        """Print a line of a process's log."""
        self.say(f"{click.style(f'{name:<{_NAME_WIDTH}} |', fg='yellow')} {line}")

    def failed(self, text: str) -> None:
        """Print the reason for the end."""
        self.say(click.style("failed: ", fg="red", bold=True) + text, error=True)
