"""Whom an operator means: one session, fingerprint, e-mail address or phone number of a tenant.

An e-mail address is compared in lower case. A phone number is compared by its digits, because others than us write it
as it was given to them, and then with or without the country's code.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

import phonenumbers

from nexus_stream.contracts.subject import subject_hash
from nexus_stream.errors import ConfigurationError

__all__ = ["Selector", "SelectorKind"]

# The (0) of +44 (0)20 … is not dialled from abroad.
_NO_DIGITS = re.compile(r"\(0\)|[^0-9]")
_INTERNATIONAL = re.compile(r"\s*\(?\+")

SelectorKind = Literal["session", "fingerprint", "email", "phone"]


@dataclass(frozen=True, slots=True)
class Selector:
    """``value`` is normalised. Its repr and hash can be shown."""

    kind: SelectorKind
    value: str
    tenant_id: str

    @classmethod
    def of(cls, kind: SelectorKind, text: str, tenant_id: str, default_region: str) -> Selector:
        """Normalise what was typed.

        Raises:
            ConfigurationError: it is no such thing.
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
        """A phone number's, with the country's code."""
        return self.value.removeprefix("+")

    @property
    def any_digits(self) -> tuple[str, ...]:
        """Those it may have where no ``+`` stands before it: with the country's code, without, with a trunk prefix.

        Without zeros in front: they stand for the way out of the country, or of the town.
        """
        number = phonenumbers.parse(self.value)
        dialled_at_home = phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.NATIONAL)
        forms = (self.value, phonenumbers.national_significant_number(number), dialled_at_home)
        return tuple(dict.fromkeys(_digits(form) for form in forms))

    def is_number(self, text: str) -> bool:
        """Whether somebody's text is the phone number; the same as ``people.py`` asks in SQL."""
        if _INTERNATIONAL.match(text):
            return _digits(text) == self.international_digits
        return _digits(text) in self.any_digits

    @property
    def hash(self) -> str:
        """For the audit: e-mail and phone can be guessed from it, so who reads the audit must be trusted with that."""
        return subject_hash(self.tenant_id, self.kind, self.value)

    def __repr__(self) -> str:
        return f"<{self.kind} {self.hash[:12]}>"


def _digits(text: str) -> str:
    return _NO_DIGITS.sub("", text).lstrip("0")
