from __future__ import annotations

import pytest

from nexus_stream.console.web.access import Access, Identity
from nexus_stream.console.web.audit import AuditLog
from nexus_stream.settings import Settings

OPERATOR, VIEWER = "operator-token-1234", "viewer-token-12345"


@pytest.fixture
def clock() -> list[float]:
    return [1_000_000.0]


@pytest.fixture
def access(clock: list[float]) -> Access:
    settings = Settings(console_token=OPERATOR, console_viewer_token=VIEWER, console_session_hours=1)
    return Access(settings, now=lambda: clock[0])


def test_tokens_give_roles(access: Access) -> None:
    assert access.of_token(OPERATOR, " Ana\x00 ") == Identity("operator", "Ana")
    assert access.of_token(VIEWER, "") == Identity("viewer", "viewer")
    for wrong in ("", "x", OPERATOR.upper(), OPERATOR + " ", "ñ" * 20, "\ud800"):
        assert access.of_token(wrong, "Ana") is None


def test_a_cookie_identifies_its_user_until_it_expires(access: Access, clock: list[float]) -> None:
    cookie = access.sign(Identity("viewer", "Vera"))
    found = access.of_cookie(cookie)
    assert found is not None
    assert (found.role, found.name) == ("viewer", "Vera")
    assert len(found.csrf) == 64
    clock[0] += 3601
    assert access.of_cookie(cookie) is None


def test_cookie_cannot_be_changed_or_made(access: Access) -> None:
    cookie = access.sign(Identity("viewer", "Vera"))
    text, _, mac = cookie.rpartition(".")
    other = f"{'1' if mac[0] == '0' else '0'}{mac[1:]}"
    forged = access.sign(Identity("operator", "Vera")).rpartition(".")[0]
    for bad in ("", ".", text, f"{forged}.{mac}", f"{text}.{other}", f"{text}.", "ñ.ñ", "\udcff.x", f"{text}A.{mac}"):
        assert access.of_cookie(bad) is None


def test_another_token_ends_every_session(access: Access) -> None:
    cookie = access.sign(Identity("operator", "Ana"))
    assert access.of_cookie(cookie) is not None
    assert Access(Settings(console_token="another-token-1234", console_viewer_token=VIEWER)).of_cookie(cookie) is None


def test_consoles_with_the_same_tokens_know_each_others_cookies(clock: list[float]) -> None:
    settings = Settings(console_token=OPERATOR)
    cookie = Access(settings, now=lambda: clock[0]).sign(Identity("operator", "Ana"))
    assert Access(settings, now=lambda: clock[0]).of_cookie(cookie) is not None


def test_a_form_needs_its_readers_token_and_origin(access: Access) -> None:
    first, second = (access.of_cookie(access.sign(Identity("operator", "Ana"))) for _ in range(2))
    assert first is not None
    assert second is not None
    host = "console.example.com"
    assert access.is_own_form(first, first.csrf, f"https://{host}", host)
    assert access.is_own_form(first, first.csrf, None, host)
    assert not access.is_own_form(first, first.csrf, "https://evil.example.com", host)
    assert not access.is_own_form(first, first.csrf, "null", host)
    assert not access.is_own_form(first, second.csrf, None, host)
    assert not access.is_own_form(first, "", None, host)
    assert not access.is_own_form(Identity("operator", "Ana"), "", None, host)


def test_without_tokens_every_user_is_the_operator(access: Access) -> None:
    assert access.anyone() is None
    assert Access(Settings()).anyone() == Identity("operator", "local")
    assert Access(Settings()).of_token("", "") is None
    assert Access(Settings()).of_bearer("Bearer ") is None


def test_bearer(access: Access) -> None:
    found = access.of_bearer(f"Bearer {OPERATOR}")
    assert found is not None
    assert found.is_operator
    assert access.of_bearer(f"Basic {OPERATOR}") is None
    assert access.of_bearer("") is None


@pytest.mark.parametrize(
    ("host", "open_answers"),
    [("localhost:1", True), ("[::1]:1", True), ("evil.example.com", False), ("board.example.com:443", True),
     ("", False)],
)  # fmt: skip
def test_without_a_login_only_own_names_are_answered(access: Access, host: str, open_answers: bool) -> None:
    assert Access(Settings(console_hosts=("board.example.com",))).answers_to(host) is open_answers
    assert access.answers_to(host)


def test_audit_survives_a_restart_and_half_a_line(tmp_path) -> None:
    log = AuditLog(tmp_path)
    log.note("Ana", "operator", "redrive", reason="not_json", letters=3, left=None)
    with log.path.open("a") as file:
        file.write('{"at": "2026')
    again = AuditLog(tmp_path)
    (entry,) = again.newest()
    assert (entry["who"], entry["action"], entry["reason"], entry["letters"]) == ("Ana", "redrive", "not_json", 3)
    assert "left" not in entry
    assert log.path.stat().st_mode & 0o777 == 0o600
