"""The names of the `nexus privacy` commands."""

from __future__ import annotations

from click.testing import CliRunner

from nexus_stream.privacy import command as module


def test_help_shows_unblock_and_hides_its_former_name():
    shown = CliRunner().invoke(module.command, ["--help"]).output
    assert "unblock" in shown
    assert "lift" not in shown


def test_lift_still_runs_unblock(monkeypatch):
    calls = []
    monkeypatch.setattr(module, "_act", lambda *arguments: calls.append(arguments))
    for name in ("unblock", "lift"):
        done = CliRunner().invoke(module.command, [name, "--session", "s-1", "--by", "officer", "--yes"])
        assert done.exit_code == 0, done.output
    unblocked, lifted = calls
    assert lifted == unblocked
    # The audit and the wire keep the word "lift".
    assert lifted[2].action == "lift"
    assert lifted[1].value == "s-1"
