"""Digits of a phone number to E.164, for a given country, also in ways of writing that the library does not know."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache

import phonenumbers

from nexus_stream.extraction.rules.countries import Regions

__all__ = ["MAX_DIGITS", "MIN_DIGITS", "as_mobile", "national_digits", "readings", "to_e164"]

MIN_DIGITS, MAX_DIGITS = 7, 17
_ARGENTINA, _BRAZIL, _MEXICO = 54, 55, 52
# Shorter digits without a plus are a national number, not one with its country code.
_MIN_WITH_CODE = 11
# A Brazilian mobile before 2016: area code and eight digits, the first 6 to 9. Since then a 9 stands before them.
_OLD_MOBILE_DIGITS = 10
# North and South America, Spain, Portugal.
_CODES = ("1", "34", "351", "5")
# No other country's national numbers look like this.
_BRAZILIAN_MOBILE = re.compile(r"[1-9][1-9]9\d{8}")
_MEXICAN_MOBILE_PREFIXES = ("044", "045")
_MEXICAN_DIGITS = 10


@lru_cache(maxsize=8192)
def to_e164(number: str, region: str) -> str | None:
    """Return a valid number as E.164, else None; a number without ``+`` belongs to ``region``."""
    plain = number
    if region == "MX" and number.startswith(_MEXICAN_MOBILE_PREFIXES) and len(number) == _MEXICAN_DIGITS + 3:
        plain = number[3:]
    try:
        parsed = phonenumbers.parse(plain, region)
    except phonenumbers.NumberParseException:
        return None
    if phonenumbers.is_valid_number(parsed):
        return phonenumbers.format_number(parsed, phonenumbers.PhoneNumberFormat.E164)
    if parsed.country_code == _MEXICO and plain.startswith("+521"):
        # Until 2019 Mexican mobile numbers had a 1 after the country code, and people still write it.
        return to_e164(f"+52{plain[4:]}", region)
    national = str(parsed.national_number)
    if parsed.country_code == _BRAZIL and len(national) == _OLD_MOBILE_DIGITS and national[2] in "6789":
        return to_e164(f"+55{national[:2]}9{national[2:]}", region)
    return None


def as_mobile(e164: str) -> str:
    """The same number as a mobile: in Argentina a 9 stands between the country code and the area code."""
    parsed = phonenumbers.parse(e164)
    national = str(parsed.national_number)
    if parsed.country_code != _ARGENTINA or national.startswith("9"):
        return e164
    return to_e164(f"+549{national}", "AR") or e164


@lru_cache(maxsize=1024)
def national_digits(e164: str) -> str:
    """The digits after the country code."""
    return str(phonenumbers.national_significant_number(phonenumbers.parse(e164)))


def readings(digits: str, regions: Regions, *, plus: bool, cued: bool) -> Iterator[str]:
    """Yield the valid numbers that the digits can be, the most probable first.

    Args:
        digits: As typed, without signs.
        regions: The countries that the chat supports.
        plus: Whether a plus sign stood before them.
        cued: Whether the text speaks of a phone.
    """
    if not MIN_DIGITS <= len(digits) <= MAX_DIGITS:
        return
    if plus or (digits.startswith("00") and len(digits) > 10):
        number = to_e164(f"+{digits.removeprefix('00')}", regions.supported[0])
        if number is not None:
            yield number
        return
    for region in regions.supported:
        number = to_e164(digits, region)
        if number is not None:
            yield number
    if cued and len(digits) >= _MIN_WITH_CODE and digits.startswith(_CODES):
        # A country code without its plus. Other codes are more probably a number with one digit too many.
        number = to_e164(f"+{digits}", regions.supported[0])
        if number is not None:
            yield number
    for region in regions.mentioned:
        number = to_e164(digits, region)
        if number is not None and (cued or _BRAZILIAN_MOBILE.fullmatch(digits)):
            yield number
