"""The permissions of each role: the printed commands, and the same list in the documentation."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner

from nexus_stream.contracts.topics import declared_topics
from nexus_stream.kafka.command import command
from nexus_stream.kafka.permissions import PERMISSION_ROLES, PermissionRole, acl_commands, permissions
from nexus_stream.settings import load_settings

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "kafka-permissions.md"


def test_the_page_has_the_same_list():
    settings = load_settings(environ={})
    expected = [
        f"| {role} | {one.resource} `{one.name}` | {', '.join(one.operations)} | {one.why} |"
        for role in PERMISSION_ROLES
        for one in permissions(settings, role)
    ]
    text = PAGE.read_text(encoding="utf-8")
    between = text.partition("<!-- permissions: begin")[2].partition("<!-- permissions: end")[0]
    assert between.splitlines()[3:] == expected


@pytest.mark.parametrize("role", PERMISSION_ROLES)
def test_names_follow_prefix_and_app_ids(role: PermissionRole):
    settings = load_settings(environ={}, topic_prefix="shop.", enricher_app_id="shop-enricher", sink_app_id="shop-sink")
    topics = {spec.name for spec in declared_topics(settings)}
    for one in permissions(settings, role):
        assert one.name in (topics if one.resource == "topic" else {"shop-enricher", "shop-sink"})
        assert one.why


def test_only_workers_read_from_groups_and_no_role_needs_the_cluster():
    settings = load_settings(environ={})
    for role in PERMISSION_ROLES:
        for one in permissions(settings, role):
            if one.resource == "group":
                reads = "Read" in one.operations
                assert reads is (one.name == {"enricher": "nexus-enricher", "sink": "nexus-sink"}.get(role))
            assert ("Create" in one.operations) is (role == "topics")


def test_a_command_can_be_pasted_into_a_shell():
    settings = load_settings(environ={}, kafka_bootstrap_servers="kafka.example:9093")
    for line, one in zip(
        acl_commands(settings, "enricher", "User:a b"), permissions(settings, "enricher"), strict=True
    ):
        words = shlex.split(line)
        assert words[:3] == ["kafka-acls.sh", "--bootstrap-server", "kafka.example:9093"]
        assert words[words.index("--allow-principal") + 1] == "User:a b"
        assert words[-2:] == [f"--{one.resource}", one.name]


def test_the_command_prints_them_and_requires_the_principals_type():
    run = CliRunner()
    outcome = run.invoke(command, ["acls", "--role", "sink", "--principal", "User:sink"])
    assert outcome.exit_code == 0
    assert outcome.output.splitlines() == acl_commands(load_settings(environ={}), "sink", "User:sink")
    refused = run.invoke(command, ["acls", "--role", "sink", "--principal", "sink"])
    assert refused.exit_code == 2
    assert re.search("User:NAME", refused.output)
