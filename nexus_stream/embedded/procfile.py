"""Read a Procfile: the process types and their commands.

``nexus dev`` and the tests start the commands of the Procfile, so that it always matches the running processes.
Commands start without a shell: variables (``$PORT``, ``${PORT}``) are replaced, and shell operators are refused.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from nexus_stream.errors import ConfigurationError

__all__ = ["PROCFILE", "ProcessType", "parse_procfile", "read_procfile"]

# Beside the package, in a checkout or an editable install.
PROCFILE = Path(__file__).parents[2] / "Procfile"

_LINE = re.compile(r"^(?P<name>[A-Za-z0-9_-]+):\s*(?P<command>\S.*)$")
_VARIABLE = re.compile(r"\$(?:(\w+)|\{(\w+)\})")
_OPERATORS = frozenset("|&;<>()`")


@dataclass(frozen=True, slots=True)
class ProcessType:
    """One line of a Procfile: a name and a command."""

    name: str
    command: str

    def argv(self, environ: Mapping[str, str]) -> list[str]:
        """Split the command into program and arguments, with variables from ``environ``.

        Raises:
            ConfigurationError: the command uses a variable that is not set.
        """

        def value(match: re.Match[str]) -> str:
            variable = match[1] or match[2]
            if variable not in environ:
                raise ConfigurationError(f"Procfile: {self.name} needs {variable}, which is not set.")
            return environ[variable]

        return [_VARIABLE.sub(value, word) for word in shlex.split(self.command)]


def read_procfile(path: Path = PROCFILE) -> dict[str, ProcessType]:
    """Read the process types of a Procfile, in order.

    Raises:
        ConfigurationError: the file cannot be read, or its text is invalid (`parse_procfile`).
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read ({error.strerror}). Run from a checkout.") from error
    return parse_procfile(text)


def parse_procfile(text: str) -> dict[str, ProcessType]:
    """Parse a Procfile's text; blank lines and lines that start with # are skipped.

    Raises:
        ConfigurationError: a line is not ``name: command``, a name occurs twice, or a command needs a shell.
    """
    types: dict[str, ProcessType] = {}
    for number, line in enumerate(text.splitlines(), 1):
        stripped = line.strip()
        if not stripped or stripped.startswith("#"):
            continue
        match = _LINE.match(stripped)
        if match is None:
            raise ConfigurationError(f"Procfile line {number}: not `name: command`.")
        name, command = match["name"], match["command"]
        if name in types:
            raise ConfigurationError(f"Procfile line {number}: {name} occurs twice.")
        if _OPERATORS & set(command):
            raise ConfigurationError(f"Procfile line {number}: {name} uses a shell operator; put it in a script.")
        types[name] = ProcessType(name, command)
    return types
