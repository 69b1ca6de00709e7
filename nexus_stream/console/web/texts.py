"""The languages of the pages, and the function that templates call ``t``.

From: languages/*.toml, one per language with the same keys. To: templates and pages, as ``t("key", name=value)``.
Values of the data itself (caliente, price) are shown as they are stored.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path

__all__ = ["LANGUAGES", "TEXTS", "Translate", "translator"]

Translate = Callable[..., str]

LANGUAGES = ("en", "es")
_FOLDER = Path(__file__).parent / "languages"
TEXTS: Mapping[str, Mapping[str, str]] = {
    name: tomllib.loads((_FOLDER / f"{name}.toml").read_text(encoding="utf-8")) for name in LANGUAGES
}


def translator(language: str) -> Translate:
    """The function that templates call ``t``; an unknown key is a KeyError, so a test finds it."""
    texts = TEXTS[language]

    def translate(key: str, **values: object) -> str:
        return texts[key].format(**values)

    return translate
