"""Whom an operator means: one session, fingerprint, e-mail address or phone number of a tenant.

E-mail and phone are compared in the form in which they are stored: lower case, E.164.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import phonenumbers

from nexus_stream.errors import ConfigurationError
from nexus_stream.privacy.subjects import subject_hash

__all__ = ["Selector", "SelectorKind"]

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
    def hash(self) -> str:
        """For the audit: e-mail and phone can be guessed from it, so who reads the audit must be trusted with that."""
        return subject_hash(self.tenant_id, self.kind, self.value)

    def __repr__(self) -> str:
        return f"<{self.kind} {self.hash[:12]}>"
