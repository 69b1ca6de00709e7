"""Every page, in every look: no error, nothing inline, nothing from elsewhere, accessible."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.browser.stage import PHONE, Stage
from tests.clients import npm
from tests.support.requirements import require

PAGES = (
    "/",
    "/sessions",
    "/sessions?q=camila&status=enriched",
    "/sessions?q=nobody-at-all",
    "/sessions/~/demo-lucia",
    "/sessions/acme/web-001",
    "/dead-letters",
    "/dead-letters/confirm?action=redrive&reason=not_json",
    "/tail",
    "/audit",
    "/erase?tenant=~&session=demo-andres",
    "/nope",
)
LOOKS: dict[str, dict[str, Any]] = {
    "light": {"color_scheme": "light"},
    "dark": {"color_scheme": "dark"},
    "phone, Spanish": {"viewport": PHONE, "color_scheme": "light", "locale": "es-CO"},
    "phone, dark": {"viewport": PHONE, "color_scheme": "dark", "is_mobile": True, "has_touch": True},
}
_SERIOUS = ("serious", "critical")


@pytest.fixture(scope="session")
def axe() -> str:
    require("node", npm.available())
    return (npm.install() / "node_modules" / "axe-core" / "axe.min.js").read_text(encoding="utf-8")


@pytest.mark.parametrize("look", LOOKS)
async def test_pages_are_accessible_and_fit(show: Stage, visit: Callable[..., Any], axe: str, look: str) -> None:
    async with visit(**LOOKS[look]) as one:
        for path in PAGES:
            await one.page.goto(show.url + path, wait_until="load")
            await one.page.wait_for_function("document.readyState === 'complete'")
            width = await one.page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
            assert width[0] <= width[1], f"{path} scrolls sideways: {width}"
            # Through the debugger, which the page's policy does not bind.
            await one.page.evaluate(axe)
            found = await one.page.evaluate("axe.run(document, {resultTypes: ['violations']})")
            serious = [
                (
                    issue["id"],
                    [node["target"] for node in issue["nodes"]][:3],
                    issue["nodes"][0]["failureSummary"][:200],
                )
                for issue in found["violations"]
                if issue["impact"] in _SERIOUS
            ]
            assert not serious, f"{path} in {look}: {serious}"
        # The page that is not there says so with its status.
        one.problems[:] = [problem for problem in one.problems if "404 (Not Found)" not in problem]


async def test_the_policy_blocks_what_is_inline(show: Stage, visit: Callable[..., Any]) -> None:
    """The check for violations can fail."""
    async with visit() as one:
        await one.page.goto(show.url)
        await one.page.evaluate(
            "document.body.append(Object.assign(document.createElement('script'), {textContent: 'window.ran = 1'}))"
        )
        await one.page.wait_for_timeout(200)
        assert await one.page.evaluate("window.ran") is None
        assert any("CSP" in problem for problem in one.problems)
        one.problems.clear()


async def test_dark_is_dark_and_light_is_light(show: Stage, visit: Callable[..., Any]) -> None:
    shades = {}
    for scheme in ("light", "dark"):
        async with visit(color_scheme=scheme) as one:
            await one.page.goto(show.url)
            colour = await one.page.evaluate("getComputedStyle(document.body).backgroundColor")
            shades[scheme] = sum(int(part) for part in colour.strip("rgb()").split(","))
    assert shades["dark"] < 150 < 600 < shades["light"]


async def test_language_follows_the_browser_and_can_be_switched(show: Stage, visit: Callable[..., Any]) -> None:
    async with visit(locale="es-CO") as one:
        await one.page.goto(f"{show.url}/sessions?q=camila")
        assert await one.page.get_attribute("html", "lang") == "es"
        await one.page.get_by_role("button", name="Buscar").wait_for()
        await one.page.get_by_role("link", name="English").click()
        await one.page.get_by_role("button", name="Search").wait_for()
        assert one.page.url.endswith("/sessions?q=camila")
        await one.page.goto(show.url)
        assert await one.page.get_attribute("html", "lang") == "en"


async def test_overview_shows_what_flows(show: Stage, visit: Callable[..., Any]) -> None:
    async with visit() as one:
        await one.page.goto(show.url)
        for role in ("Gateway", "Enricher", "Sink"):
            node = one.page.locator(".flow .node", has_text=role)
            await node.locator(".dot.running").wait_for(timeout=60_000)
        await one.page.wait_for_function("document.querySelectorAll('.chart canvas').length === 4")
        # Of both groups every partition, in a section of its own.
        await one.page.locator(".partitions div:has-text('Sink') .part").first.wait_for(timeout=60_000)
        assert await one.page.locator(".partitions div:has-text('Enricher') .part").count() >= 1
        table = one.page.locator("table.plain", has_text="Version · host · pid")
        assert await table.locator("tbody tr").count() == 3
        before = await one.page.locator(".figures dd").first.inner_text()
        show.post("overview-live", "Hola, soy Camila Torres", fingerprint="fp-overview")
        await one.page.wait_for_function(
            "before => document.querySelector('.figures dd').innerText !== before", arg=before, timeout=60_000
        )


async def test_keyboard(show: Stage, visit: Callable[..., Any]) -> None:
    async with visit() as one:
        page = one.page
        await page.goto(f"{show.url}/sessions")
        await page.keyboard.press("/")
        assert await page.evaluate("document.activeElement.name") == "q"
        await page.keyboard.press("Escape")
        await page.keyboard.press("j")
        await page.keyboard.press("j")
        second = await page.evaluate("document.activeElement.getAttribute('href')")
        assert second == await page.locator("a[data-row]").nth(1).get_attribute("href")
        await page.keyboard.press("k")
        await page.keyboard.press("?")
        assert await page.locator("dialog#keys").is_visible()
        await page.keyboard.press("Escape")
        assert not await page.locator("dialog#keys").is_visible()
        await page.keyboard.press("Enter")
        await page.wait_for_url("**/sessions/**")
        await page.keyboard.press("g")
        await page.keyboard.press("d")
        await page.wait_for_url("**/dead-letters")
        # The first stop of the tab key skips the head.
        await page.keyboard.press("Tab")
        assert await page.evaluate("document.activeElement.getAttribute('href')") == "#main"
