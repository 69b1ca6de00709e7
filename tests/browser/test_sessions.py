"""Search, filters, paging, exports, one session, erasing: as an operator does it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.browser.stage import Stage, within
from tests.stack import eventually


async def _listed(page: Any) -> list[str]:
    return [text.strip() for text in await page.locator("td.session code").all_inner_texts()]


async def test_search_finds_by_every_field(show: Stage, visit: Callable[..., Any]) -> None:
    async with visit() as one:
        await one.page.goto(f"{show.url}/sessions")
        for text in ("lucia ramirez", "LUCÍA.RAMIREZ@EXAMPLE.COM", "202 555 0143", "fp-lucia", "demo-luc"):
            await one.page.fill("input[type=search]", text)
            async with one.page.expect_navigation():
                await one.page.keyboard.press("Enter")
            assert "demo-lucia" in await _listed(one.page), text
        await one.page.fill("input[type=search]", "nobody at all")
        await one.page.keyboard.press("Enter")
        await one.page.get_by_text("No session matches").wait_for()


async def test_filters_apply_at_once_and_join(show: Stage, visit: Callable[..., Any]) -> None:
    async with visit() as one:
        await one.page.goto(f"{show.url}/sessions")
        await one.page.select_option("select[name=momento]", "caliente")
        await one.page.wait_for_url("**/sessions?momento=caliente")
        assert await _listed(one.page) == ["demo-lucia"]
        await one.page.select_option("select[name=momento]", "")
        await one.page.wait_for_url("**/sessions")
        await one.page.select_option("select[name=objecion]", "price")
        await one.page.wait_for_url("**/sessions?objecion=price")
        assert "demo-andres" in await _listed(one.page)
        await one.page.select_option("select[name=arquetipo]", "emprendedor_dueno_negocio")
        await one.page.get_by_text("No session matches").wait_for()
        await one.page.get_by_role("link", name="Clear").click()
        await one.page.wait_for_url("**/sessions")
        await one.page.select_option("select[name=period]", "1h")
        await one.page.wait_for_url("**/sessions?period=1h")
        assert len(await _listed(one.page)) == 50


async def test_pages_follow_each_other_without_gap_or_double(show: Stage, visit: Callable[..., Any]) -> None:
    async with visit() as one:
        await one.page.goto(f"{show.url}/sessions?q=camila&until=2999-01-01")
        first = await _listed(one.page)
        await one.page.get_by_role("link", name="Next").click()
        await one.page.wait_for_url("**after=**")
        second = await _listed(one.page)
        many = [name for name in (*first, *second) if name.startswith("many-")]
        assert len(first) == 50
        assert sorted(many) == [f"many-{number:03}" for number in range(60)]
        assert "q=camila" in one.page.url
        assert "until=2999-01-01" in one.page.url


async def test_a_post_shows_soon_without_reloading(show: Stage, visit: Callable[..., Any]) -> None:
    async with visit() as one:
        await one.page.goto(f"{show.url}/sessions")
        await one.page.evaluate("window.notReloaded = true")

        async def post_and_see(number: int) -> None:
            await asyncio.to_thread(show.post, f"live-{number}", f"Hola, me llamo Sofía Medina {number}")
            await one.page.locator("td.session", has_text=f"live-{number}").wait_for(timeout=60_000)

        await within(5.0, post_and_see)
        assert await one.page.evaluate("window.notReloaded")


async def test_what_is_focused_stays_focused_when_rows_come(show: Stage, visit: Callable[..., Any]) -> None:
    async with visit() as one:
        await one.page.goto(f"{show.url}/sessions")
        await one.page.fill("input[type=search]", "half a wor")
        await asyncio.to_thread(show.post, "live-focus", "Hola, me llamo Sofía Medina")
        await one.page.locator("td.session", has_text="live-focus").wait_for(timeout=60_000)
        assert await one.page.input_value("input[type=search]") == "half a wor"


async def test_exports_are_files_of_the_filter(show: Stage, visit: Callable[..., Any], tmp_path: Path) -> None:
    async with visit(accept_downloads=True) as one:
        await one.page.goto(f"{show.url}/sessions?q=fp-many")
        for kind in ("CSV", "JSON"):
            async with one.page.expect_download() as waiting:
                await one.page.get_by_role("link", name=kind, exact=True).click()
            download = await waiting.value
            path = tmp_path / kind
            await download.save_as(path)
            text = path.read_text(encoding="utf-8")
            assert download.suggested_filename.endswith(kind.lower())
            assert len(json.loads(text)) == 60 if kind == "JSON" else text.count("many-") == 120


async def test_a_session_shows_its_evidence_its_way_and_its_row(show: Stage, visit: Callable[..., Any]) -> None:
    async with visit() as one:
        await one.page.goto(f"{show.url}/sessions/~/demo-lucia")
        page = one.page
        mark = page.locator("mark", has_text="lucia.ramirez@example.com")
        assert "email" in (await mark.get_attribute("title") or "")
        assert await page.locator(".conversation li").count() == 9
        steps = [await step.get_attribute("data-step") for step in await page.locator(".timeline li").all()]
        assert steps[0] == "received"
        assert {"settled", "extracted", "emitted", "row"} <= set(steps)
        await page.locator("[data-step=row]", has_text="current row").wait_for()
        await page.locator("summary", has_text="Row in the database").click()
        assert "fp-lucia" in await page.locator("details pre").first.inner_text()
        await page.locator(".others a", has_text="demo-lucia-2").click()
        await page.wait_for_url("**/sessions/~/demo-lucia-2")
        await page.locator(".others a", has_text="demo-lucia").first.wait_for()


async def test_erasing_a_person_removes_them_everywhere(show: Stage, visit: Callable[..., Any]) -> None:
    await asyncio.to_thread(show.post, "erase-me", "Hola, me llamo Gabriela Pardo", fingerprint="fp-erase")

    async def stored() -> bool:
        return bool(await show.stack.prospect("fp-erase"))

    await eventually(stored, seconds=60, what="the row to erase")
    async with visit() as one:
        page = one.page
        # The console has an index of its own, which may be behind the database.
        await page.goto(f"{show.url}/sessions")
        await page.locator("td.session", has_text="erase-me").wait_for(timeout=60_000)
        await page.goto(f"{show.url}/sessions/~/erase-me")
        await page.get_by_role("button", name="Erase").click()
        await page.get_by_text("sessions: 1").wait_for()
        await page.fill("input[name=typed]", "erase-me")
        await page.get_by_role("button", name="Erase", exact=True).click()
        await page.get_by_role("heading", name="Erased").wait_for(timeout=60_000)
        await page.goto(f"{show.url}/sessions?q=gabriela")
        await page.get_by_text("No session matches").wait_for()
        await page.goto(f"{show.url}/audit")
        await page.locator("tr", has_text="erase").first.wait_for()
        assert "erase-me" not in await page.locator("main").inner_text()
    assert not await show.stack.prospect("fp-erase")


async def test_a_persons_data_can_be_taken_along(show: Stage, visit: Callable[..., Any]) -> None:
    async with visit(accept_downloads=True) as one:
        await one.page.goto(f"{show.url}/sessions/~/demo-valentina")
        async with one.page.expect_download() as waiting:
            await one.page.get_by_role("button", name="Export").click()
        path = await (await waiting.value).path()
        found = json.loads(path.read_text(encoding="utf-8"))
        assert found["session_ids"] == ["demo-valentina"]
        assert found["fingerprints"] == ["fp-valentina"]
