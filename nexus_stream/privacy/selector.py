"""Select a person: by one session, fingerprint, e-mail address or phone number of a tenant.

E-mail addresses are compared in lower case. Phone numbers are compared by their digits: other writers store a number as
the person typed it, with or without the country code.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

import phonenumbers

from nexus_stream.contracts.subject import subject_hash
from nexus_stream.errors import ConfigurationError

__all__ = ["Selector", "SelectorKind"]

# Callers from abroad do not dial the (0) of +44 (0)20 ….
_NO_DIGITS = re.compile(r"\(0\)|[^0-9]")
_INTERNATIONAL = re.compile(r"\s*\(?\+")

SelectorKind = Literal["session", "fingerprint", "email", "phone"]


@dataclass(frozen=True, slots=True)
class Selector:
    """One way to name a person. ``value`` is normalised. The repr and the hash contain no personal data."""

    kind: SelectorKind
    value: str
    tenant_id: str

    @classmethod
    def of(cls, kind: SelectorKind, text: str, tenant_id: str, default_region: str) -> Selector:
        """Normalise the operator's input.

        Raises:
            ConfigurationError: the text is not of this kind.
        """
        value = text.strip()
        if kind == "email":
            value = value.lower()
            if value.count("@") != 1:
                raise ConfigurationError("--email: not an e-mail address.")
        elif kind == "phone":
            try:
                number = phonenumbers.parse(value, default_region)
            except phonenumbers.NumberParseException as error:
                raise ConfigurationError("--phone: not a phone number.") from error
            value = phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)
        if not value:
            raise ConfigurationError(f"--{kind}: empty.")
        return cls(kind, value, tenant_id)

    @property
    def international_digits(self) -> str:
        """The digits of a phone number, with the country code."""
        return self.value.removeprefix("+")

    @property
    def any_digits(self) -> tuple[str, ...]:
        """The digits a number may have without a ``+``: with the country code, without it, or with a trunk prefix.

        Leading zeros are removed: they are the prefix for calls to another country or town.
        """
        number = phonenumbers.parse(self.value)
        national = phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.NATIONAL)
        forms = (self.value, phonenumbers.national_significant_number(number), national)
        return tuple(dict.fromkeys(_digits(form) for form in forms))

    def is_number(self, text: str) -> bool:
        """Whether a text is this phone number. ``people.py`` applies the same rule in SQL."""
        if _INTERNATIONAL.match(text):
            return _digits(text) == self.international_digits
        return _digits(text) in self.any_digits

    @property
    def hash(self) -> str:
        """The hash for the audit. Guessing can reveal an e-mail or phone behind it: only trusted people may read it."""
        return subject_hash(self.tenant_id, self.kind, self.value)

    def __repr__(self) -> str:
        return f"<{self.kind} {self.hash[:12]}>"


def _digits(text: str) -> str:
    return _NO_DIGITS.sub("", text).lstrip("0")
