"""Loopback ports: chosen free, a taken one named."""

import os
import socket

from nexus_stream.host.free_ports import LOOPBACK, free_port, port_is_free, port_owner


def _listen() -> socket.socket:
    listener = socket.socket()
    listener.bind((LOOPBACK, 0))
    listener.listen()
    return listener


def test_a_free_port_can_be_bound_and_is_none_of_those_to_avoid() -> None:
    ports: set[int] = set()
    for _ in range(20):
        port = free_port(avoid=ports)
        assert port not in ports
        assert port_is_free(port)
        ports.add(port)


def test_a_listening_port_is_not_free_and_its_owner_is_named() -> None:
    with _listen() as listener:
        port = listener.getsockname()[1]

        assert not port_is_free(port)
        owner = port_owner(port)

    assert owner is not None
    assert f"(pid {os.getpid()})" in owner


def test_a_bound_port_nobody_listens_on_is_not_free_and_has_no_owner() -> None:
    with socket.socket() as bound:
        bound.bind((LOOPBACK, 0))
        port = bound.getsockname()[1]

        assert not port_is_free(port)
        assert port_owner(port) is None
