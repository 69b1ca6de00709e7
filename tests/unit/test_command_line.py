"""What the operators' commands have in common."""

from __future__ import annotations

import getpass
import socket

import click
import pytest

from nexus_stream.command_line import operator, run
from nexus_stream.errors import BrokerUnavailableError


@pytest.mark.parametrize("error", [KeyError("getpwuid(): uid not found: 10001"), OSError("no user name")])
def test_a_container_user_without_a_name_is_unknown(error: Exception, monkeypatch: pytest.MonkeyPatch):
    def nobody() -> str:
        raise error

    monkeypatch.setattr(getpass, "getuser", nobody)
    assert operator() == f"unknown@{socket.gethostname()}"


def test_what_may_pass_ends_the_command_with_its_message():
    async def work() -> None:
        raise BrokerUnavailableError("No broker answers.")

    with pytest.raises(click.ClickException, match=r"^No broker answers\. Try again\.$"):
        run(work(), hint="Try again.")
