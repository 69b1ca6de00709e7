"""``python -m tests.browser.screenshots``: pictures of the console for the docs, from the running product.

From: the real pipeline with the demo's invented people. To: ``docs/images/console-*.png``, light, dark and phone.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.browser.stage import DESK, PHONE, VIEWER_TOKEN, Stage, Visit, browser, missing, stage
from tests.stack import eventually

_IMAGES = Path(__file__).parents[2] / "docs" / "images"
_PAGES = {
    "overview": "/",
    "sessions": "/sessions",
    "session": "/sessions/~/demo-lucia",
    "dead-letters": "/dead-letters",
    "live": "/tail",
}
_NAMES = (
    "Camila Torres",
    "Diego Salazar",
    "Natalia Peña",
    "Santiago Muñoz",
    "Laura Gómez",
    "Felipe Castro",
    "Daniela Vargas",
    "Mateo Herrera",
    "Sofía Medina",
    "Esteban Rojas",
    "Gabriela Pardo",
)
_SAYINGS = (
    "Quiero empezar ya",
    "Me parece caro",
    "No tengo tiempo",
    "Trabajo como abogada y quiero saber más",
    "¿Esto es una pirámide?",
    "Tengo una tienda y quiero la inversión",
    "Solo estoy mirando",
)
# So that curves have something to show.
_TRAFFIC_SECONDS = 50


async def _traffic(show: Stage, seconds: float) -> None:
    show.post_demo()
    await show.fail_some()
    for number in range(int(seconds * 2)):
        show.post(
            f"visit-{number:04}",
            f"Hola, me llamo {_NAMES[number % len(_NAMES)]}. {_SAYINGS[number % len(_SAYINGS)]}",
            "¡Hola! ¿Cómo te contacto?",
            f"Mi correo es visita{number}@example.com",
            fingerprint=f"fp-visit-{number}",
        )
        await asyncio.sleep(0.5)


async def _shoot(show: Stage, folder: Path, images: Path, names: list[str]) -> None:
    async with browser(folder) as chromium:
        looks: dict[str, dict[str, Any]] = {
            "light": {"viewport": DESK, "color_scheme": "light"},
            "dark": {"viewport": DESK, "color_scheme": "dark"},
            "phone": {"viewport": PHONE, "color_scheme": "light", "device_scale_factor": 2, "locale": "es-CO"},
        }
        for look, options in looks.items():
            visit = await Visit.begin(chromium, **options)
            for name, path in _PAGES.items():
                if names and name not in names:
                    continue
                await visit.page.goto(show.url + path)
                await asyncio.sleep(2.5 if name == "overview" else 0.6)
                await visit.page.screenshot(path=images / f"console-{name}-{look}.png")
            assert not visit.problems, visit.problems
            await visit.context.close()
        if not names or "login" in names:
            visit = await Visit.begin(chromium)
            await visit.page.goto(f"{show.guarded_url}/login")
            await visit.page.screenshot(path=images / "console-login-light.png")
            await visit.log_in(show.guarded_url, VIEWER_TOKEN, "Vera")
            await visit.page.goto(f"{show.guarded_url}/sessions")
            await visit.page.screenshot(path=images / "console-viewer-light.png")
            await visit.context.close()


async def _main(show: Stage, folder: Path, images: Path, names: list[str]) -> None:
    await _traffic(show, 5 if names else _TRAFFIC_SECONDS)

    async def stored() -> bool:
        return bool(await show.stack.prospect("fp-lucia"))

    await eventually(stored, seconds=20, what="rows in the database")
    await _shoot(show, folder, images, names)


def main() -> None:
    """Take all pictures, or those named, into the docs or the folder after ``--to``."""
    reason = missing()
    if reason is not None:
        sys.exit(f"screenshots need {reason}")
    arguments = sys.argv[1:]
    images = _IMAGES
    if "--to" in arguments:
        at = arguments.index("--to")
        images = Path(arguments[at + 1])
        del arguments[at : at + 2]
    images.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as name, stage(Path(name)) as show:
        asyncio.run(_main(show, Path(name), images, arguments))
    print(f"pictures in {images}")


if __name__ == "__main__":
    main()
