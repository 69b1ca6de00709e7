"""verify-full with a private CA: the right server is accepted, another CA or another name is not."""

from __future__ import annotations

import shutil
import socket
import ssl
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import asyncpg
import pytest

from nexus_stream.embedded.postgres_user import server_user
from nexus_stream.errors import ConfigurationError
from nexus_stream.host.free_ports import LOOPBACK
from nexus_stream.settings import load_settings
from nexus_stream.supabase.writer import ProspectWriter
from tests.support.certificates import CertificateAuthority
from tests.support.pgbouncer import PgBouncer, missing_pgbouncer
from tests.support.postgres import server_folder
from tests.support.requirements import require

if TYPE_CHECKING:
    from tests.integration.supabase.conftest import Database, MakeRecord, Server

_HOST = "localhost"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> CertificateAuthority:
    return CertificateAuthority.make(tmp_path_factory.mktemp("ca"), "private")


@pytest.fixture(scope="module")
def tls_port(server: Server, authority: CertificateAuthority) -> Iterator[int]:
    """A TLS endpoint with a certificate for localhost: a pooler, or the server itself."""
    certificate, key = authority.issue(_HOST)
    if server.name == "embedded":
        # The server is built without TLS. Supabase's poolers also terminate TLS.
        require("pgbouncer", missing_pgbouncer())
        with server_folder() as folder:
            copies = [_give(file, folder) for file in (certificate, key)]
            settings = {"client_tls_sslmode": "require"}
            settings |= dict(zip(("client_tls_cert_file", "client_tls_key_file"), map(str, copies), strict=True))
            with PgBouncer(folder / "pgbouncer", server.port, "transaction", settings=settings) as pooler:
                yield pooler.port
        return
    for name, file in (("ssl_cert_file", certificate), ("ssl_key_file", key)):
        _give(file, server.data_dir)
        server.alter(f"{name} = '{file.name}'")
    server.alter("ssl = on")
    _wait_for_tls(server.port)
    yield server.port
    server.alter("ssl = off")


def _give(file: Path, folder: Path) -> Path:
    """A copy that the servers' user can read, and nobody else."""
    copy = Path(shutil.copy(file, folder / file.name))
    user = server_user()
    if user.uid is not None and user.gid is not None:
        shutil.chown(copy, user.uid, user.gid)
    copy.chmod(0o600)
    return copy


def _wait_for_tls(port: int) -> None:
    """Until the server answers PostgreSQL's SSLRequest with S."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        with socket.create_connection((LOOPBACK, port), timeout=5) as connection:
            connection.sendall(b"\x00\x00\x00\x08\x04\xd2\x16\x2f")
            if connection.recv(1) == b"S":
                return
        time.sleep(0.05)
    pytest.fail("the server does not support TLS")


def _dsn(port: int, database: Database, host: str, options: str) -> str:
    return f"postgresql://postgres@{host}:{port}/{database.name}?{options}"


async def _connect(dsn: str) -> ProspectWriter:
    return await ProspectWriter.connect(load_settings(environ={"NEXUS_ENV": "production"}, database_url=dsn))


async def test_the_right_server_is_accepted(
    database: Database, authority: CertificateAuthority, tls_port: int, record: MakeRecord
) -> None:
    dsn = _dsn(tls_port, database, _HOST, f"sslmode=verify-full&sslrootcert={authority.certificate}")
    writer = await _connect(dsn)
    try:
        assert (await writer.write([record("s", "fp", nombre="Ana")])).inserted == 1
        async with writer._pool.acquire() as connection:
            transport: ssl.SSLObject | None = connection._con._transport.get_extra_info("ssl_object")
            assert transport is not None
            assert transport.version() in {"TLSv1.2", "TLSv1.3"}
    finally:
        await writer.close()


@pytest.mark.parametrize("wrong", ["authority", "host"])
async def test_a_wrong_authority_or_name_is_a_configuration_error(
    database: Database, authority: CertificateAuthority, tls_port: int, tmp_path: Path, wrong: str
) -> None:
    trusted = CertificateAuthority.make(tmp_path, "stranger") if wrong == "authority" else authority
    host = LOOPBACK if wrong == "host" else _HOST
    dsn = _dsn(tls_port, database, host, f"sslmode=verify-full&sslrootcert={trusted.certificate}")
    # No retry: only an operator can fix this.
    with pytest.raises(ConfigurationError, match=r"certificate is not trusted\. Check sslrootcert and the host name"):
        await _connect(dsn)


async def test_a_server_without_tls_is_a_configuration_error(
    database: Database, poolers: dict[str, PgBouncer], authority: CertificateAuthority
) -> None:
    port = poolers["session"].port
    dsn = _dsn(port, database, _HOST, f"sslmode=verify-full&sslrootcert={authority.certificate}")
    with pytest.raises(ConnectionError, match="rejected SSL upgrade"):
        await asyncpg.connect(dsn)
    with pytest.raises(ConfigurationError, match="does not support TLS"):
        await _connect(dsn)


async def test_a_certificate_file_that_is_not_there_stops_the_start(database: Database, tmp_path: Path) -> None:
    port = database.server.port
    with pytest.raises(ConfigurationError, match="there is no file"):
        await _connect(_dsn(port, database, _HOST, f"sslmode=verify-full&sslrootcert={tmp_path / 'none.crt'}"))
