"""The jars of an Apache Kafka node, resolved with Maven once and kept.

From: ``pom.xml`` beside this file, through the user's own Maven settings. To: a folder of jars for the launcher's
classpath, named by the pom's hash, so that a changed version resolves anew.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

__all__ = ["DEFAULT_CACHE", "available", "java", "resolve_jars"]

_POM = Path(__file__).with_name("pom.xml")
DEFAULT_CACHE = Path(__file__).parents[2] / ".nexus" / "kafka-jars"
_JAVA_MINIMUM = 17  # Apache Kafka 4 brokers: https://kafka.apache.org/documentation/#java
_MAVEN_TIMEOUT_SECONDS = 300


def java() -> str | None:
    """The java program: ``JAVA_HOME``'s, else the one on PATH."""
    home = os.environ.get("JAVA_HOME")
    if home and (program := shutil.which("java", path=str(Path(home) / "bin"))):
        return program
    return shutil.which("java")


def available() -> str | None:
    """None when a node can be started here, else what is missing."""
    program = java()
    if program is None:
        return f"Apache Kafka needs Java {_JAVA_MINIMUM} or newer, and there is no java on PATH"
    answer = subprocess.run([program, "-version"], capture_output=True, text=True, timeout=30, check=False)
    version = re.search(r'version "(\d+)', answer.stderr)
    if version is None or int(version[1]) < _JAVA_MINIMUM:
        found = version[1] if version else "unknown"
        return f"Apache Kafka needs Java {_JAVA_MINIMUM} or newer, {program} is {found}"
    if not _folder(DEFAULT_CACHE).is_dir() and shutil.which("mvn") is None:
        return "Apache Kafka's jars are resolved with Maven, and there is no mvn on PATH"
    return None


def resolve_jars(cache: Path = DEFAULT_CACHE) -> Path:
    """The folder with the jars; Maven runs only when this pom has not been resolved yet.

    Raises:
        RuntimeError: Maven failed; the message holds the end of what it said.
    """
    folder = _folder(cache)
    if folder.is_dir():
        return folder
    cache.mkdir(parents=True, exist_ok=True)
    # Renamed when complete, so an interrupted or a parallel run never leaves half a classpath.
    with tempfile.TemporaryDirectory(dir=cache, prefix=".resolving-") as scratch:
        jars = Path(scratch) / "jars"
        answer = subprocess.run(
            [
                *("mvn", "-q", "-B", "-f", str(_POM), "dependency:copy-dependencies"),
                *("-DincludeScope=runtime", f"-DoutputDirectory={jars}"),
            ],
            capture_output=True,
            text=True,
            timeout=_MAVEN_TIMEOUT_SECONDS,
            check=False,
        )
        if answer.returncode != 0:
            raise RuntimeError(f"Maven could not resolve {_POM}:\n{(answer.stdout + answer.stderr)[-2000:]}")
        try:
            jars.rename(folder)
        except OSError:
            if not folder.is_dir():  # else another process was first, with the same jars
                raise
    return folder


def _folder(cache: Path) -> Path:
    return cache / hashlib.sha256(_POM.read_bytes()).hexdigest()[:12]
