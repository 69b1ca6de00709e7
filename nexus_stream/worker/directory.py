"""A worker's own data directory, and a check that its tables belong to the current broker.

The directory is ``NEXUS_DATA_DIR/<app id>/<slot>``, with the first slot whose lock is free. So several workers can run
on one host, and each finds an old slot again. The local tables are bound to the broker's cluster id: a restarted
memory-only broker is another cluster. Faust would crash on the old tables (``ConsistencyError``) or silently keep them.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import IO

from nexus_stream.contracts.json_reading import json_object
from nexus_stream.errors import ConfigurationError
from nexus_stream.host.file_lock import DirectoryInUseError, lock_file
from nexus_stream.host.log import get_logger

__all__ = ["WorkerDirectory"]

_log = get_logger(__name__)

_MAX_SLOTS = 64


class WorkerDirectory:
    """One worker's locked slot.

    Attributes:
        path: The slot's directory.
    """

    def __init__(self, path: Path, lock: IO[str]) -> None:
        self.path = path
        self._lock = lock

    @classmethod
    def claim(cls, data_dir: Path, app_id: str) -> WorkerDirectory:
        """Lock the first free slot. The kernel frees the lock at any end of the process.

        Raises:
            ConfigurationError: the directory cannot be written, or all slots are taken.
        """
        for slot in range(_MAX_SLOTS):
            path = data_dir / app_id / str(slot)
            try:
                return cls(path, lock_file(path / "lock"))
            except DirectoryInUseError:
                continue
            except OSError as error:
                raise ConfigurationError(
                    f"NEXUS_DATA_DIR: {path} cannot be written ({error.strerror}). Choose a writable directory."
                ) from error
        raise ConfigurationError(f"NEXUS_DATA_DIR: all {_MAX_SLOTS} slots under {data_dir / app_id} are taken.")

    def bind(self, identity: dict[str, str]) -> bool:
        """Keep the stored tables only if they belong to this broker and these topics.

        Args:
            identity: The broker's cluster id, and anything else that the tables depend on.

        Returns:
            Whether old tables were discarded. The changelog rebuilds them.
        """
        stamp = self.path / "identity.json"
        if stamp.exists() and json_object(stamp.read_bytes()) == identity:
            return False
        discarded = False
        for child in self.path.iterdir():
            if child.name not in {"lock", stamp.name}:
                discarded = True
                shutil.rmtree(child) if child.is_dir() else child.unlink()
        temporary = stamp.with_suffix(".tmp")
        temporary.write_text(json.dumps(identity))
        temporary.replace(stamp)
        if discarded:
            _log.info("local tables belong to another broker, discarded", path=str(self.path))
        return discarded

    def release(self) -> None:
        """Free the slot before the process ends."""
        self._lock.close()
