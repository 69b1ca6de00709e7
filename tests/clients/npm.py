"""The Node.js clients of the tests: kafkajs as the existing site uses it, and two published schemas.

From: ``package.json`` and ``package-lock.json`` beside this file, through the user's own npm settings. To: a folder
with ``node_modules``, named by the lock's hash, and scripts copied into it: that is where Node.js looks for imports.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

__all__ = ["DEFAULT_CACHE", "available", "install", "place", "run"]

_HERE = Path(__file__).parent
DEFAULT_CACHE = _HERE.parents[1] / ".nexus" / "npm"
_NODE_MINIMUM = 18  # node:util parseArgs, which examples/subscriber.mjs uses
_NPM_TIMEOUT_SECONDS = 180


def available() -> str | None:
    """None when the scripts can run here, else what is missing."""
    node = shutil.which("node")
    if node is None or shutil.which("npm") is None:
        return f"kafkajs needs Node.js {_NODE_MINIMUM} or newer with npm, and PATH has no node or no npm"
    answer = subprocess.run([node, "--version"], capture_output=True, text=True, timeout=30, check=False)
    version = re.match(r"v(\d+)", answer.stdout)
    if version is None or int(version[1]) < _NODE_MINIMUM:
        return f"kafkajs needs Node.js {_NODE_MINIMUM} or newer, {node} is {answer.stdout.strip() or 'unknown'}"
    return None


def install(cache: Path = DEFAULT_CACHE) -> Path:
    """The folder that holds ``node_modules``; npm runs only when this lock has not been installed yet.

    Raises:
        RuntimeError: npm failed; the message holds the end of what it said.
    """
    lock = (_HERE / "package-lock.json").read_bytes()
    folder = cache / hashlib.sha256(lock).hexdigest()[:12]
    if folder.is_dir():
        return folder
    cache.mkdir(parents=True, exist_ok=True)
    # Renamed when complete, so an interrupted or a parallel run never leaves half of it.
    with tempfile.TemporaryDirectory(dir=cache, prefix=".installing-") as scratch:
        target = Path(scratch) / "clients"
        target.mkdir()
        for name in ("package.json", "package-lock.json"):
            shutil.copy(_HERE / name, target)
        answer = subprocess.run(
            ["npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts"],
            cwd=target,
            capture_output=True,
            text=True,
            timeout=_NPM_TIMEOUT_SECONDS,
            check=False,
        )
        if answer.returncode != 0:
            raise RuntimeError(f"npm ci failed:\n{(answer.stdout + answer.stderr)[-2000:]}")
        try:
            target.rename(folder)
        except OSError:
            if not folder.is_dir():  # else another process was first, with the same lock
                raise
    return folder


def place(script: Path, folder: Path) -> Path:
    """Copy a script, as it is, to where its imports resolve, and return the copy."""
    return Path(shutil.copy(script, folder))


def run(script: Path, *arguments: str) -> list[dict[str, Any]]:
    """What a placed script prints, a JSON object a line."""
    answer = subprocess.run(["node", str(script), *arguments], capture_output=True, text=True, timeout=60, check=False)
    assert answer.returncode == 0, answer.stderr[-2000:]
    return [json.loads(line) for line in answer.stdout.splitlines()]
