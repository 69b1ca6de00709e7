"""Loopback ports for the processes that ``nexus dev`` and the tests start.

Ports are taken from below the range that the kernel uses for outgoing connections, so that a client's own socket does
not sit on a port between our choosing it and a server's binding it. That can still happen: whoever starts a server on
a chosen port retries with another.
"""

from __future__ import annotations

import random
import socket
from collections.abc import Collection

import psutil

__all__ = ["LOOPBACK", "free_port", "port_is_free", "port_owner"]

LOOPBACK = "127.0.0.1"

# Linux hands out 32768-60999 by default, macOS and Windows from 49152.
_FIRST_PORT = 20_000
_LAST_PORT = 32_700
_ATTEMPTS = 200

_RANDOM = random.SystemRandom()


def port_is_free(port: int) -> bool:
    """Whether a server could listen on the port right now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # As aiohttp, PostgreSQL and the broker do: connections of an earlier run that still fade out do not count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


def free_port(avoid: Collection[int] = ()) -> int:
    """Return a loopback TCP port that nobody uses.

    Args:
        avoid: Ports promised to somebody who has not bound them yet.
    """
    for _ in range(_ATTEMPTS):
        port = _RANDOM.randint(_FIRST_PORT, _LAST_PORT)
        if port not in avoid and port_is_free(port):
            return port
    # Never seen; the kernel's own choice is still a free port.
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])


def port_owner(port: int) -> str | None:
    """Return who listens on the port, ``postgres (pid 4711)``; None when nobody does.

    The system may hide other users' processes: then the answer is ``another process``.
    """
    try:
        connections = psutil.net_connections(kind="tcp")
    except (psutil.AccessDenied, OSError):
        # macOS shows the table to root only.
        connections = []
    for connection in connections:
        if connection.status == psutil.CONN_LISTEN and connection.laddr and connection.laddr.port == port:
            return _describe(connection.pid)
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.settimeout(0.5)
        return "another process" if probe.connect_ex((LOOPBACK, port)) == 0 else None


def _describe(pid: int | None) -> str:
    if pid is None:
        return "another user's process"
    try:
        return f"{psutil.Process(pid).name()} (pid {pid})"
    except psutil.Error:
        return f"pid {pid}"
