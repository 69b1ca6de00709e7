"""A private certificate authority for tests of TLS, made with the openssl program."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
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
    def make(cls, folder: Path, name: str, *, exist_ok: bool = False) -> CertificateAuthority:
        """Make its key and certificate.

        Args:
            folder: Made if missing.
            name: Its common name, and the start of its files' names.
            exist_ok: Take the one that is in the folder, if there is one.
        """
        folder.mkdir(parents=True, exist_ok=True)
        authority = cls(folder, name)
        if exist_ok and authority.certificate.exists() and authority._key.exists():
            return authority
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

    def issue(
        self,
        name: str,
        *,
        dns_names: Sequence[str] = (),
        addresses: Sequence[str] = (),
        purposes: str = "serverAuth",
        exist_ok: bool = False,
    ) -> tuple[Path, Path]:
        """Make a certificate for one DNS name, or for a client whose common name it is.

        Args:
            name: Its common name and its first DNS name.
            dns_names: More of them.
            addresses: IP addresses it is valid for too.
            purposes: ``serverAuth``, ``clientAuth`` or both with a comma between them.
            exist_ok: Return the files of an earlier call where they are there.

        Returns:
            The certificate's and the key's files.
        """
        certificate, key = self.folder / f"{self.name}-{name}.crt", self.folder / f"{self.name}-{name}.key"
        if exist_ok and certificate.exists() and key.exists():
            return certificate, key
        request, extensions = certificate.with_suffix(".csr"), certificate.with_suffix(".ext")
        alternatives = [*(f"DNS:{one}" for one in (name, *dns_names)), *(f"IP:{one}" for one in addresses)]
        extensions.write_text(
            f"subjectAltName={','.join(alternatives)}\n"
            f"basicConstraints=CA:FALSE\nkeyUsage=digitalSignature\nextendedKeyUsage={purposes}\n"
            "subjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n",
            encoding="ascii",
        )
        _openssl(
            *["req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"],
            *["-keyout", str(key), "-out", str(request), "-subj", f"/CN={name}"],
        )
        _openssl(
            *["x509", "-req", "-in", str(request), "-CA", str(self.certificate), "-CAkey", str(self._key)],
            *["-CAcreateserial", "-out", str(certificate), "-days", _DAYS, "-extfile", str(extensions)],
        )
        key.chmod(0o600)
        return certificate, key


def _openssl(*arguments: str) -> None:
    subprocess.run(["openssl", *arguments], check=True, capture_output=True, timeout=60)
