"""Whom the embedded PostgreSQL runs as: ourselves, or as root a system user of its own, for it refuses to be root.

As root, that user must be able to pass through the directories above the data and the programs. Where one does not let
others through, it gets the traverse bit (``o+x``) alone: names in it stay hidden from them.
"""

from __future__ import annotations

import os
import pwd
import stat
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from nexus_stream.errors import ConfigurationError

__all__ = ["ServerUser", "server_user"]

_USER_NAME = "nexus-postgres"
_USERADD_ATTEMPTS = 10


@dataclass(frozen=True, slots=True)
class ServerUser:
    """Whom to start the server as; None means as ourselves."""

    uid: int | None
    gid: int | None

    def own(self, directory: Path) -> None:
        """Give the directory and what is in it to this user, closed to everybody else."""
        if self.uid is None or self.gid is None:
            owner = directory.stat().st_uid
            if owner != os.geteuid():
                raise ConfigurationError(
                    f"{directory} belongs to user id {owner}, probably because it was made as root. "
                    f"Run as that user again, or give it to yours: sudo chown -R $(id -u) {directory}"
                )
            return
        if directory.stat().st_uid == self.uid:
            return
        for folder, _, files in os.walk(directory):
            os.chown(folder, self.uid, self.gid)
            for name in files:
                os.chown(Path(folder, name), self.uid, self.gid, follow_symlinks=False)

    def reach(self, path: Path) -> bool:
        """Let this user through to a path; returns whether a directory above it had to be opened."""
        opened = False
        if self.uid is None:
            return opened
        for folder in path.resolve().parents:
            mode = folder.stat().st_mode
            if not mode & stat.S_IXOTH and folder.stat().st_uid != self.uid:
                folder.chmod(stat.S_IMODE(mode) | stat.S_IXOTH)
                opened = True
        return opened

    def read(self, tree: Path) -> None:
        """Let this user read and run what is in a directory, where an installation under a strict umask forbids it."""
        if self.uid is None:
            return
        for path in [tree, *tree.rglob("*")]:
            if path.is_symlink():
                continue
            mode = stat.S_IMODE(path.stat().st_mode)
            wanted = mode | stat.S_IROTH | (stat.S_IXOTH if mode & stat.S_IXUSR else 0)
            if wanted != mode:
                path.chmod(wanted)


def server_user() -> ServerUser:
    """Ourselves, or as root the system user, made if it is not there.

    Raises:
        ConfigurationError: we are root and cannot make it.
    """
    if os.geteuid() != 0:
        return ServerUser(None, None)
    problem = ""
    for _ in range(_USERADD_ATTEMPTS):
        try:
            entry = pwd.getpwnam(_USER_NAME)
        except KeyError:
            problem = _add_user()
        else:
            return ServerUser(entry.pw_uid, entry.pw_gid)
        # Another start may hold the password file's lock right now, or be making the same user.
        time.sleep(0.2)
    raise ConfigurationError(
        f"PostgreSQL does not run as root, and its user {_USER_NAME} could not be made: {problem}. "
        "Run as an ordinary user."
    )


def _add_user() -> str:
    """Return what went wrong, empty if nothing did."""
    argv = ["useradd", "--system", "--no-create-home", "--home-dir", "/nonexistent", "--shell", "/usr/sbin/nologin"]
    try:
        result = subprocess.run([*argv, _USER_NAME], check=False, capture_output=True, text=True, timeout=30)
    except OSError as error:
        return str(error)
    return result.stderr.strip() if result.returncode else ""
