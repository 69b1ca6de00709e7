"""A broker that refuses access: the process ends, and names the setting or permission, at its start or later."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from nexus_stream.errors import AccessDeniedError
from nexus_stream.kafka.access import require_access, require_login
from nexus_stream.kafka.permissions import PERMISSION_ROLES, Permission, PermissionRole, permissions
from nexus_stream.kafka.topics import apply_topics, compare_topics
from nexus_stream.settings import Settings, load_settings
from tests.kafka.security import unsecured_token
from tests.stack import eventually
from tests.support.certificates import CertificateAuthority

if TYPE_CHECKING:
    from tests.integration.kafka_security.conftest import SecuredStack

pytestmark = pytest.mark.timeout(300)

EX_CONFIG = 78


def settings_of(stack: SecuredStack, user: str, mechanism: str = "SCRAM-SHA-512", **variables: str) -> Settings:
    return load_settings(environ={**stack.variables, **stack.login(user, mechanism), **variables})


def of(stack: SecuredStack, role: PermissionRole, name: str) -> Permission:
    [found] = [one for one in permissions(stack.settings, role) if one.name == name]
    return found


@pytest.mark.parametrize(
    ("mechanism", "variables", "expected"),
    [
        (
            "SCRAM-SHA-512",
            {"NEXUS_KAFKA_PASSWORD": "wrong"},
            r"NEXUS_KAFKA_PASSWORD: \S+ refuses the login of User:sink",
        ),
        ("SCRAM-SHA-256", {"NEXUS_KAFKA_PASSWORD": "wrong"}, r"NEXUS_KAFKA_PASSWORD: .*SCRAM-SHA-256"),
        ("PLAIN", {"NEXUS_KAFKA_USERNAME": "nobody"}, "refuses the login of User:nobody by PLAIN"),
        ("SCRAM-SHA-512", {"NEXUS_KAFKA_CA_FILE": ""}, "NEXUS_KAFKA_CA_FILE: .*not trusted.*the system's authorities"),
        ("SCRAM-SHA-512", {"NEXUS_KAFKA_SECURITY_PROTOCOL": "SSL"}, None),
        (
            "mTLS",
            {"NEXUS_KAFKA_CLIENT_CERT_FILE": "", "NEXUS_KAFKA_CLIENT_KEY_FILE": ""},
            "NEXUS_KAFKA_CLIENT_CERT_FILE.*wants a client certificate and none is set",
        ),
    ],
    ids=["scram-512", "scram-256", "plain", "no-ca", "no-login", "no-certificate"],
)
async def test_a_refused_login_names_the_variable(
    stack: SecuredStack, mechanism: str, variables: dict[str, str], expected: str | None
):
    wrong = settings_of(stack, "sink", mechanism, **variables)
    if expected is None:
        # The broker closes the connection without an error, as at its own stop: perhaps not our fault.
        with pytest.raises(Exception, match="does NEXUS_KAFKA_SECURITY_PROTOCOL=SSL fit that port"):
            await require_login(wrong)
        return
    for question in (require_login(wrong), require_access(wrong, "sink"), compare_topics(wrong)):
        with pytest.raises(AccessDeniedError, match=expected):
            await question
    await require_login(settings_of(stack, "sink", mechanism))


async def test_a_foreign_authority_and_a_foreign_certificate(stack: SecuredStack, tmp_path: Path):
    foreign = CertificateAuthority.make(tmp_path, "foreign-ca")
    with pytest.raises(AccessDeniedError, match=r"NEXUS_KAFKA_CA_FILE: .*foreign-ca\.crt"):
        await require_login(settings_of(stack, "sink", NEXUS_KAFKA_CA_FILE=str(foreign.certificate)))
    certificate, key = foreign.issue("sink", purposes="clientAuth")
    with pytest.raises(AccessDeniedError, match=r"NEXUS_KAFKA_CLIENT_CERT_FILE.*does not accept this one"):
        await require_login(
            settings_of(
                stack,
                "sink",
                "mTLS",
                NEXUS_KAFKA_CLIENT_CERT_FILE=str(certificate),
                NEXUS_KAFKA_CLIENT_KEY_FILE=str(key),
            )
        )


async def test_a_refused_token(stack: SecuredStack):
    settings = settings_of(stack, "sink", "OAUTHBEARER")
    await require_access(settings, "sink")
    assert settings.kafka_oauth_token_file is not None
    expired = unsecured_token("sink", lifetime_seconds=-60)
    settings.kafka_oauth_token_file.write_text(expired)
    with pytest.raises(AccessDeniedError, match=r"NEXUS_KAFKA_OAUTH_TOKEN_FILE.*refuses the token") as caught:
        await require_login(settings)
    assert expired not in str(caught.value)
    settings.kafka_oauth_token_file.write_text("")
    with pytest.raises(AccessDeniedError, match=r"NEXUS_KAFKA_OAUTH_TOKEN_FILE: \S+ is empty"):
        await require_access(settings, "sink")


@pytest.mark.parametrize("role", ["gateway", "enricher", "sink"])
async def test_each_permission_is_missed(stack: SecuredStack, role: PermissionRole):
    """One operation at a time: the error names only it, and the command that grants it."""
    settings = settings_of(stack, role)
    await require_access(settings, role)
    for permission in permissions(settings, role):
        for operation in permission.operations:
            one = Permission(permission.resource, permission.name, (operation,), permission.why)
            with stack.without(role, one), pytest.raises(AccessDeniedError) as caught:
                await require_access(settings, role)
            message = str(caught.value)
            assert f"- {one.resource} {one.name}: {operation} (" in message
            assert message.count("kafka-acls.sh") == 1
            assert f"--allow-principal User:{role} --operation {operation} --{one.resource} {one.name}" in message
    await require_access(settings, role)


async def test_a_denied_topic_creation_names_the_missing_permission(stack: SecuredStack):
    new = settings_of(stack, "enricher", NEXUS_TOPIC_PREFIX="other.")
    differences = await compare_topics(new)
    assert [one.detail for one in differences if one.name == new.status_topic] == [
        "missing, or without the Describe permission: grant it (`nexus topics acls`)"
    ]
    seen = [Permission("topic", one.name, ("Describe",), "") for one in permissions(new, "topics")]
    stack.cluster.admin.add_acls("User:enricher", seen)
    try:
        with pytest.raises(AccessDeniedError, match="nexus topics acls --role topics --principal User:enricher"):
            await apply_topics(new)
    finally:
        stack.cluster.admin.remove_acls("User:enricher", seen)


def ended(stack: SecuredStack, name: str, seconds: float = 60) -> tuple[int, str]:
    code = stack.processes[name].process.wait(seconds)
    text = stack.output(name)
    assert "Traceback" not in text
    return code, text


async def test_workers_end_at_their_start(stack: SecuredStack):
    changelog = of(stack, "enricher", stack.settings.sessions_changelog_topic)
    group = of(stack, "sink", stack.settings.sink_app_id)
    with stack.without("enricher", changelog), stack.without("sink", group):
        stack.start_as("enricher", "SCRAM-SHA-512")
        stack.start_as("sink", "SCRAM-SHA-512")
        stack.start("enricher", "stranger", **stack.login("enricher", "SCRAM-SHA-512") | {"NEXUS_KAFKA_PASSWORD": "no"})
        stack.start("gateway", "doorman", **stack.login("gateway", "SCRAM-SHA-512") | {"NEXUS_KAFKA_PASSWORD": "no"})
        code, text = await asyncio.to_thread(ended, stack, "enricher")
        assert (code, f"topic {changelog.name}: Read, Write" in text) == (EX_CONFIG, True)
        code, text = await asyncio.to_thread(ended, stack, "sink")
        assert (code, f"group {group.name}: Read" in text) == (EX_CONFIG, True)
    code, text = await asyncio.to_thread(ended, stack, "stranger")
    assert (code, "refuses the login of User:enricher by SCRAM-SHA-512" in text) == (EX_CONFIG, True)
    # `nexus` commands end with 2 on a configuration that is wrong.
    code, text = await asyncio.to_thread(ended, stack, "doorman")
    assert (code, "refuses the login of User:gateway by SCRAM-SHA-512" in text) == (2, True)


async def test_workers_end_when_a_permission_is_removed(stack: SecuredStack):
    enriched = of(stack, "enricher", stack.settings.enriched_topic)
    group = of(stack, "sink", stack.settings.sink_app_id)
    stack.start_as("enricher", "SCRAM-SHA-512")
    stack.start_as("sink", "SCRAM-SHA-512")
    stack.start("sink", "other-sink", **stack.login("sink", "SCRAM-SHA-256"))
    for process in stack.processes.values():
        await asyncio.to_thread(process.wait_until_ready)
    password = stack.login("sink", "SCRAM-SHA-256")["NEXUS_KAFKA_PASSWORD"]
    stack.cluster.admin.add_user("sink", "another one", "SCRAM-SHA-256")
    with stack.without("enricher", enriched), stack.without("sink", group):
        # Running work cannot be published, so it stays uncommitted for the next start.
        value = b'{"sessionId":"taken","messages":[{"role":"user","content":"Hola, soy Eva"}],"fingerprint":"fp-taken"}'
        await stack.produce(stack.settings.ingestion_topic, [(b"taken", value)])
        code, text = await asyncio.to_thread(ended_running, stack, "enricher")
        assert (code, f"topic {enriched.name}: Write" in text) == (EX_CONFIG, True)
        code, text = await asyncio.to_thread(ended_running, stack, "sink")
        assert (code, f"group {group.name}: Read" in text) == (EX_CONFIG, True)
        # Its connections are still open. A new connection is refused at the login.
        code, text = await asyncio.to_thread(ended_running, stack, "other-sink")
        assert (code, "refuses the login of User:sink by SCRAM-SHA-256" in text) == (EX_CONFIG, True)
    stack.cluster.admin.add_user("sink", password, "SCRAM-SHA-256")

    stack.start("enricher", "again", **stack.login("enricher", "SCRAM-SHA-512"))
    stack.start("sink", "again-too", **stack.login("sink", "SCRAM-SHA-512"))

    async def row() -> bool:
        return (await stack.prospect("fp-taken") or {}).get("nombre") == "Eva"

    await eventually(row, seconds=90, what="the row of what waited")


def ended_running(stack: SecuredStack, name: str) -> tuple[int, str]:
    code = stack.processes[name].process.wait(100)
    text = stack.output(name)
    assert "Traceback" not in text
    return code, text


def test_no_role_has_more_than_it_uses(stack: SecuredStack):
    """No role may delete, alter, or act on the cluster; only `topics` may create."""
    for role in PERMISSION_ROLES:
        operations = {operation for one in permissions(stack.settings, role) for operation in one.operations}
        assert operations <= {"Read", "Write", "Create", "Describe", "DescribeConfigs"}
        assert ("Create" in operations) is (role == "topics")
        assert not any(re.search(r"\*", one.name) for one in permissions(stack.settings, role))
