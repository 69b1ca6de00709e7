"""Explain why an address cannot be reached: its name, its port or its certificate.

A `Trouble` explains the exception of a failed connection attempt in an operator's words. Only `connect` uses the
network.
"""

from __future__ import annotations

import asyncio
import errno
import socket
import ssl
from dataclasses import dataclass

from nexus_stream.doctor.running import REACH_SECONDS

__all__ = ["Trouble", "certificate_trouble", "connect", "trouble_of"]

# OpenSSL's X509_V_ERR_*.
_EXPIRED, _NOT_YET, _SELF_SIGNED, _SELF_SIGNED_CHAIN, _NO_ISSUER, _NO_FIRST, _HOSTNAME, _IP = (
    *(10, 9, 18, 19, 20, 21),
    *(62, 64),
)


@dataclass(frozen=True, slots=True)
class Trouble:
    """The reason of a failed connection.

    Attributes:
        kind: ``dns``, ``refused``, ``timeout``, ``unreachable``, ``certificate``, ``tls``, ``closed``, ``other``.
        found: The observed problem.
        fix: What to check, without the variable's name.
    """

    kind: str
    found: str
    fix: str


async def connect(host: str, port: int, seconds: float = REACH_SECONDS) -> Trouble | None:
    """Open and close one TCP connection. Return None if this works."""
    try:
        async with asyncio.timeout(seconds):
            _, writer = await asyncio.open_connection(host, port)
    except (OSError, TimeoutError) as failure:
        return trouble_of(failure, f"{host}:{port}")
    writer.transport.abort()
    return None


def trouble_of(failure: BaseException, place: str) -> Trouble:
    """Explain an exception of a connection attempt.

    Args:
        failure: The exception. If exceptions are wrapped, pass the innermost one.
        place: ``host:port``.
    """
    match failure:
        case socket.gaierror():
            fix = (
                "correct the host name or this machine's name server (a private endpoint resolves only in its network)"
            )
            return Trouble("dns", f"{place}: the name does not resolve", fix)
        case ssl.SSLCertVerificationError():
            return certificate_trouble(failure, place)
        case ssl.SSLError():
            return _tls_trouble(failure, place)
        case ConnectionRefusedError():
            fix = "start the server, or correct the port: nothing listens there"
            return Trouble("refused", f"{place}: connection refused", fix)
        case TimeoutError():
            fix = "open the firewall or security group for this machine, or correct the address: packets get no answer"
            return Trouble("timeout", f"{place}: no answer in time", fix)
        case ConnectionResetError() | BrokenPipeError() | asyncio.IncompleteReadError():
            fix = "check that this port uses the configured protocol (TLS or plain text), and that no proxy closes it"
            return Trouble("closed", f"{place}: the server closed the connection", fix)
        case OSError() if failure.errno in {errno.EHOSTUNREACH, errno.ENETUNREACH}:
            fix = "check the route (VPN, peering, IPv6) from this machine"
            return Trouble("unreachable", f"{place}: there is no route to this address", fix)
        case OSError() if "Connect call failed" in str(failure):
            # asyncio raises this if a name has several addresses and each one refuses.
            return trouble_of(ConnectionRefusedError(), place)
        case _:
            return Trouble("other", f"{place}: {type(failure).__name__}", "check the server's log")


def certificate_trouble(failure: ssl.SSLCertVerificationError, place: str) -> Trouble:
    """Explain why the server's certificate is not accepted."""
    match failure.verify_code:
        case code if code in {_EXPIRED, _NOT_YET}:
            found = "its certificate has expired or is not valid yet"
            fix = "renew the server's certificate, or correct this machine's clock"
        case code if code in {_HOSTNAME, _IP}:
            found = "its certificate is for another host name"
            fix = "use a host name of the certificate"
        case code if code in {_SELF_SIGNED, _SELF_SIGNED_CHAIN, _NO_ISSUER, _NO_FIRST}:
            found = "its certificate is signed by an authority that is not trusted here"
            fix = "set the file with that authority's certificate"
        case _:
            found = f"its certificate is not valid ({failure.verify_message})"
            fix = "set the file with the right authority's certificate"
    return Trouble("certificate", f"{place}: {found}", fix)


def _tls_trouble(failure: ssl.SSLError, place: str) -> Trouble:
    reason = str(failure.reason or "").upper()
    if "WRONG_VERSION_NUMBER" in reason or "RECORD_LAYER" in reason or "UNEXPECTED_EOF" in reason:
        fix = "turn TLS off for this address, or use its TLS port"
        return Trouble("tls", f"{place}: the server does not use TLS on this port", fix)
    if "CERTIFICATE_REQUIRED" in reason or "HANDSHAKE_FAILURE" in reason or "BAD_CERTIFICATE" in reason:
        fix = "set a client certificate that the server's authority signed"
        return Trouble("tls", f"{place}: the server refuses the TLS handshake ({reason.lower()})", fix)
    return Trouble(
        "tls", f"{place}: the TLS handshake fails ({reason.lower() or 'no reason given'})", "check the server's log"
    )
