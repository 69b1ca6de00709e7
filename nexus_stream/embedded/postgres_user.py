"""The system user of the embedded PostgreSQL: the current user or, for root, a separate user.

PostgreSQL refuses to run as root. The separate user must reach the data and the programs through their parent
directories. A parent that is closed to others gets only the traverse bit (``o+x``): its file names stay hidden.
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
    """The user that runs the server; None means the current user."""

    uid: int | None
    gid: int | None

    def own(self, directory: Path) -> None:
        """Give the directory and its content to this user."""
        if self.uid is None or self.gid is None:
            owner = directory.stat().st_uid
            if owner != os.geteuid():
                raise ConfigurationError(
                    f"{directory} belongs to user id {owner}, probably because it was created as root. "
                    f"Run as that user again, or change the owner: sudo chown -R $(id -u) {directory}"
                )
            return
        if directory.stat().st_uid == self.uid:
            return
        for folder, _, files in os.walk(directory):
            os.chown(folder, self.uid, self.gid)
            for name in files:
                os.chown(Path(folder, name), self.uid, self.gid, follow_symlinks=False)

    def reach(self, path: Path) -> bool:
        """Let this user reach a path. Return whether a parent directory had to be opened."""
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
        """Let this user read and run the files of a directory, even if it was installed with a strict umask."""
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
    """Return the current user or, for root, the system user, which is created if it is missing.

    Raises:
        ConfigurationError: the current user is root, and the system user cannot be created.
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
        # Another start may hold the lock of the password file, or may be creating the same user.
        time.sleep(0.2)
    raise ConfigurationError(
        f"PostgreSQL does not run as root, and its user {_USER_NAME} could not be created: {problem}. "
        "Run as an ordinary user."
    )


def _add_user() -> str:
    """Create the system user. Return the error; empty on success."""
    argv = ["useradd", "--system", "--no-create-home", "--home-dir", "/nonexistent", "--shell", "/usr/sbin/nologin"]
    try:
        result = subprocess.run([*argv, _USER_NAME], check=False, capture_output=True, text=True, timeout=30)
    except OSError as error:
        return str(error)
    return result.stderr.strip() if result.returncode else ""
