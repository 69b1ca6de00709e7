"""The languages of the pages, and the function that templates call ``t``.

From: texts_en.py and texts_es.py, mappings with the same keys. To: templates and pages, as ``t("key", name=value)``.
Values of the data itself (caliente, price) are shown as they are stored.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from nexus_stream.console.web.texts_en import ENGLISH
from nexus_stream.console.web.texts_es import SPANISH

__all__ = ["ENGLISH", "LANGUAGES", "SPANISH", "Translate", "translator"]

Translate = Callable[..., str]

LANGUAGES: Mapping[str, Mapping[str, str]] = MappingProxyType({"en": ENGLISH, "es": SPANISH})


def translator(language: str) -> Translate:
    """The function that templates call ``t``; an unknown key is a KeyError, so a test finds it."""
    texts = LANGUAGES[language]

    def translate(key: str, **values: object) -> str:
        return texts[key].format(**values)

    return translate
