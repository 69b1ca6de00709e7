"""The area ``host``: the data directory, disk, memory and file descriptors of this machine or container.

The check writes one temporary file to the data directory and removes it at once.
"""

from __future__ import annotations

import os
import resource
import shutil
import tempfile
from pathlib import Path
from typing import Final

import psutil

from nexus_stream.doctor.finding import Finding, error, note, ok, warning
from nexus_stream.settings import Role, Settings

__all__ = [
    "check_host",
    "judge_descriptors",
    "judge_disk",
    "judge_memory",
    "memory_limit_bytes",
    "memory_need_bytes",
    "slot_holders",
]

_MIB: Final = 2**20
_DISK_ERROR_BYTES: Final = 200 * _MIB
_DISK_WARNING_BYTES: Final = 1024 * _MIB
# A worker without load: interpreter, libraries, RocksDB's caches. Measured: about 150 MiB.
_BASE_BYTES: Final = 250 * _MIB
# Memory per pending byte: each conversation is held twice as Python objects. See docs/reference/capacity.md.
_PENDING_FACTOR: Final = 4
_BASE_DESCRIPTORS: Final = 256
_DESCRIPTORS_PER_PARTITION: Final = 64
_CGROUP_LIMITS: Final = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))


async def check_host(settings: Settings, roles: frozenset[Role]) -> list[Finding]:
    """Run all checks of this machine. None of them uses the network."""
    keeps_state = bool(roles & {"enricher", "sink", "console"})
    findings = _data_dir(settings.data_dir) if keeps_state else []
    for role, app_id in (("enricher", settings.enricher_app_id), ("sink", settings.sink_app_id)):
        if role in roles:
            findings += _locks(settings.data_dir / app_id)
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    findings.append(judge_descriptors(settings, soft, roles))
    if roles & {"enricher", "sink"}:
        findings.append(judge_memory(settings, memory_limit_bytes()))
    return findings


def _data_dir(path: Path) -> list[Finding]:
    # A worker makes the directory. The doctor changes nothing, so it tests the nearest existing parent.
    nearest = path
    while not nearest.exists() and nearest != nearest.parent:
        nearest = nearest.parent
    shown = path.absolute()
    try:
        with tempfile.NamedTemporaryFile(dir=nearest, prefix=".nexus-doctor-"):
            pass
    except OSError as failure:
        why = "No worker and no console starts."
        fix = f"NEXUS_DATA_DIR: name a writable directory, or chown this one to user id {os.getuid()}"
        return [error("host.data_dir", f"{shown} cannot be written ({failure.strerror})", why, fix)]
    state = "is writable" if path.exists() else "will be made at the first start"
    return [ok("host.data_dir", f"{shown} {state}"), judge_disk(str(shown), shutil.disk_usage(nearest).free)]


def judge_disk(place: str, free_bytes: int) -> Finding:
    """Check the disk space for the local tables and the console's index: about 2 KB per session each."""
    found = f"{free_bytes / _MIB:,.0f} MiB are free for {place}"
    why = "A full disk stops the worker. Its table must then be rebuilt from the changelog."
    fix = "Free or add disk space, or set NEXUS_DATA_DIR to a larger disk"
    if free_bytes < _DISK_ERROR_BYTES:
        return error("host.disk", found, why, fix)
    if free_bytes < _DISK_WARNING_BYTES:
        return warning("host.disk", found, why, fix)
    return ok("host.disk", found)


def _locks(folder: Path) -> list[Finding]:
    holders = slot_holders(folder)
    if not holders:
        return []
    listed = ", ".join(f"slot {slot} by pid {pid} ({name})" for slot, pid, name in holders)
    why = "A worker started now uses the next slot, and rebuilds its table there."
    return [note("host.locks", f"{folder}: {listed}", why)]


def slot_holders(folder: Path) -> list[tuple[str, int, str]]:
    """Return slot, process id and program of each held lock under an app's folder.

    The function reads the kernel's list of locks. If it tried to lock a slot, a worker that starts at that moment could
    not get the slot.
    """
    try:
        lines = Path("/proc/locks").read_text().splitlines()
        slots = sorted(folder.iterdir())
    except OSError:
        return []
    held: dict[tuple[int, int, int], int] = {}
    for line in lines:
        fields = line.split()
        if "->" in fields or len(fields) < 6 or fields[1] != "FLOCK":
            continue
        major, minor, inode = fields[5].split(":")
        held[int(major, 16), int(minor, 16), int(inode)] = int(fields[4])
    found = []
    for slot in slots:
        try:
            stat = (slot / "lock").stat()
            # Prefer the pid that the worker wrote: the kernel may list another namespace's pid or device number.
            written = int((slot / "lock").read_text() or 0)
        except (OSError, ValueError):
            continue
        pid = held.get((os.major(stat.st_dev), os.minor(stat.st_dev), stat.st_ino))
        if pid is None and not any(inode == stat.st_ino for _, _, inode in held):
            continue
        found.append((slot.name, written or pid or 0, _program(written or pid or 0)))
    return found


def _program(pid: int) -> str:
    try:
        return psutil.Process(pid).name()
    except psutil.Error:
        return "of another user or container"


def judge_descriptors(settings: Settings, soft_limit: int, roles: frozenset[Role]) -> Finding:
    """Compare the needed open files and sockets with the process's limit."""
    needed = _BASE_DESCRIPTORS
    if "enricher" in roles:
        needed += settings.claude_concurrency if settings.use_claude else 0
        needed += settings.topic_partitions * _DESCRIPTORS_PER_PARTITION if settings.table_store == "rocksdb" else 0
    if "gateway" in roles:
        needed = max(needed, 1024)
    if soft_limit == resource.RLIM_INFINITY or soft_limit >= needed:
        shown = "unlimited" if soft_limit == resource.RLIM_INFINITY else str(soft_limit)
        return ok("host.descriptors", f"open files: {shown}, about {needed} are needed")
    why = "Under load, connections and table files cannot be opened (Too many open files)."
    fix = "ulimit -n 65536 (systemd: LimitNOFILE=65536)"
    return warning("host.descriptors", f"open files: {soft_limit}, about {needed} are needed", why, fix)


def memory_limit_bytes() -> int:
    """Return the memory limit of this container, or else of this machine."""
    total = int(psutil.virtual_memory().total)
    for path in _CGROUP_LIMITS:
        try:
            text = path.read_text().strip()
        except OSError:
            continue
        if text.isdigit():
            total = min(total, int(text))
    return total


def memory_need_bytes(settings: Settings) -> int:
    """Return the memory need of one enricher at its bound."""
    return _BASE_BYTES + _PENDING_FACTOR * settings.pending_max_bytes


def judge_memory(settings: Settings, limit_bytes: int) -> Finding:
    """Compare one worker's memory need at its bound with the memory limit."""
    needed = memory_need_bytes(settings)
    found = (
        f"memory: {limit_bytes / _MIB:,.0f} MiB; a worker at its bound needs about {needed / _MIB:,.0f} MiB "
        f"(250 MiB + 4 x NEXUS_PENDING_MAX_BYTES)"
    )
    if needed <= limit_bytes:
        return ok("host.memory", found)
    lower = max(65_536, int((limit_bytes - _BASE_BYTES) / _PENDING_FACTOR))
    why = "With a backlog, the kernel kills the worker before the worker stops reading."
    fix = f"NEXUS_PENDING_MAX_BYTES={lower} or less, or more memory"
    return warning("host.memory", found, why, fix)
