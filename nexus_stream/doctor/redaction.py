"""Remove secrets from texts, as the last step before a report is printed.

No check puts a secret into a finding. This step protects against a message of a server or a library that contains one.
"""

from __future__ import annotations

import dataclasses
import re
from urllib.parse import unquote, urlsplit

from pydantic import SecretStr

from nexus_stream.doctor.finding import Finding
from nexus_stream.settings import Settings

__all__ = ["Redaction"]

_HIDDEN = "***"
# Shorter secrets also occur inside ordinary words. A password of that length protects nothing.
_MIN_CHARS = 4
_PASSWORD_IN_ADDRESS = re.compile(r"(?P<before>\w+://[^\s/:@]*:)(?!PASSWORD@)[^\s@/]+(?=@)")


class Redaction:
    """Hide the secrets of one configuration."""

    def __init__(self, settings: Settings | None) -> None:
        secrets: set[str] = set()
        for name in type(settings).model_fields if settings is not None else ():
            value = getattr(settings, name)
            if isinstance(value, SecretStr):
                secrets |= _parts(value.get_secret_value())
        # Replace the longest first: a secret may contain another one, and the rest of it would stay visible.
        self._secrets = sorted((secret for secret in secrets if len(secret) >= _MIN_CHARS), key=len, reverse=True)

    def of(self, text: str) -> str:
        """Return the text without secrets."""
        for secret in self._secrets:
            text = text.replace(secret, _HIDDEN)
        return _PASSWORD_IN_ADDRESS.sub(rf"\g<before>{_HIDDEN}", text)

    def apply(self, finding: Finding) -> Finding:
        """Return the finding without secrets."""
        return dataclasses.replace(
            finding, found=self.of(finding.found), why=self.of(finding.why), fix=self.of(finding.fix)
        )


def _parts(secret: str) -> set[str]:
    """Return the secret itself and, if it is an address, the password in it."""
    parts = {secret}
    try:
        password = urlsplit(secret).password if "://" in secret else None
    except ValueError:
        password = None
    if password:
        parts |= {password, unquote(password)}
    return parts
