"""Loopback ports for the processes that ``nexus dev`` and the tests start.

Ports are chosen below the range that the kernel uses for outgoing connections. So a client's socket rarely gets a port
between the moment we choose it and the moment a server binds it. It can still happen: code that starts a server on a
chosen port must retry with another port.
"""

from __future__ import annotations

import random
import socket
from collections.abc import Collection

import psutil

__all__ = ["LOOPBACK", "free_port", "port_is_free", "port_owner"]

LOOPBACK = "127.0.0.1"

# Linux assigns 32768-60999 by default, macOS and Windows from 49152.
_FIRST_PORT = 20_000
_LAST_PORT = 32_700
_ATTEMPTS = 200

_RANDOM = random.SystemRandom()


def port_is_free(port: int) -> bool:
    """Whether a server could listen on the port right now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # aiohttp, PostgreSQL and the broker set it too. With it, closing connections of an earlier run do not count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


def free_port(avoid: Collection[int] = ()) -> int:
    """Return a free loopback TCP port.

    Args:
        avoid: Ports that are already chosen but not bound yet.
    """
    for _ in range(_ATTEMPTS):
        port = _RANDOM.randint(_FIRST_PORT, _LAST_PORT)
        if port not in avoid and port_is_free(port):
            return port
    # This was never seen. The kernel's choice is also a free port.
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])


def port_owner(port: int) -> str | None:
    """Return the process that listens on the port, ``postgres (pid 4711)``; None if there is none.

    The system may hide the processes of other users. Then the result is ``another process``.
    """
    try:
        connections = psutil.net_connections(kind="tcp")
    except (psutil.AccessDenied, OSError):
        # macOS shows the table only to root.
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
