"""A private certificate authority for tests of TLS, made with the openssl program."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

__all__ = ["CertificateAuthority"]

_DAYS = "2"


@dataclass(frozen=True, slots=True)
class CertificateAuthority:
    """An authority whose files are in a folder."""

    folder: Path
    name: str

    @classmethod
    def make(cls, folder: Path, name: str) -> CertificateAuthority:
        """Make its key and certificate.

        Args:
            folder: Made if missing.
            name: Its common name, and the start of its files' names.
        """
        folder.mkdir(parents=True, exist_ok=True)
        authority = cls(folder, name)
        _openssl(
            *["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"],
            *["-keyout", str(authority._key), "-out", str(authority.certificate)],
            *["-subj", f"/CN={name}", "-days", _DAYS],
            *["-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign,cRLSign"],
        )
        return authority

    @property
    def certificate(self) -> Path:
        """What clients name as their ``sslrootcert``."""
        return self.folder / f"{self.name}.crt"

    @property
    def _key(self) -> Path:
        return self.folder / f"{self.name}.key"

    def issue(self, host: str) -> tuple[Path, Path]:
        """Make a server's certificate for one DNS name.

        Returns:
            The certificate's and the key's files.
        """
        certificate, key = self.folder / f"{self.name}-{host}.crt", self.folder / f"{self.name}-{host}.key"
        request, extensions = certificate.with_suffix(".csr"), certificate.with_suffix(".ext")
        extensions.write_text(
            f"subjectAltName=DNS:{host}\nbasicConstraints=CA:FALSE\nkeyUsage=digitalSignature\n"
            "extendedKeyUsage=serverAuth\nsubjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n",
            encoding="ascii",
        )
        _openssl(
            *["req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"],
            *["-keyout", str(key), "-out", str(request), "-subj", f"/CN={host}"],
        )
        _openssl(
            *["x509", "-req", "-in", str(request), "-CA", str(self.certificate), "-CAkey", str(self._key)],
            *["-CAcreateserial", "-out", str(certificate), "-days", _DAYS, "-extfile", str(extensions)],
        )
        key.chmod(0o600)
        return certificate, key


def _openssl(*arguments: str) -> None:
    subprocess.run(["openssl", *arguments], check=True, capture_output=True, timeout=60)
