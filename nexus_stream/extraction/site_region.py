"""The country of phone numbers without a country code, as far as the site and its tenant tell.

A country that the chat itself supports goes before this one (rules/countries.py).
"""

from __future__ import annotations

from typing import Final
from urllib.parse import urlsplit

import phonenumbers

from nexus_stream.contracts.conversation import Conversation
from nexus_stream.settings import Settings

__all__ = ["region_for"]

# Endings that sites everywhere use. Below a second level, as in "com.co", they do name the country.
_USED_EVERYWHERE: Final = frozenset(
    ["ac", "ai", "cc", "co", "fm", "gg", "im", "io", "la", "ly", "me", "nu", "pw", "sh", "so", "st", "to", "tv", "vc"]
)
_SECOND_LEVELS: Final = frozenset({"com", "org", "net", "edu", "gov", "gob", "co"})
_ENDINGS: Final = {"uk": "GB"}


def region_for(conversation: Conversation, settings: Settings) -> str:
    """The tenant's country; else that of the page's address; else the default.

    Returns:
        An ISO 3166 code of two letters.
    """
    region = settings.tenant_regions.get(conversation.tenant_id) or _region_of_page(conversation.metadata.url)
    return region or settings.default_region


def _region_of_page(url: str | None) -> str | None:
    try:
        labels = (urlsplit(url or "").hostname or "").removesuffix(".").split(".")
    except ValueError:
        return None
    ending = labels[-1]
    if len(labels) < 2 or len(ending) != 2:
        return None
    if ending in _USED_EVERYWHERE and not (len(labels) > 2 and labels[-2] in _SECOND_LEVELS):
        return None
    region = _ENDINGS.get(ending, ending.upper())
    return region if region in phonenumbers.SUPPORTED_REGIONS else None
