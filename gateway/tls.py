"""The server's own certificate: both files looked at before anything listens, so that trouble is said in words.

Law: nothing is served that a client could not check: a missing half, an unreadable file, a key of another certificate
or one under a password is an error with what to do, never a prompt on a terminal nor a silent plain port.
"""

from __future__ import annotations

import ssl
from pathlib import Path

from gateway.settings import Server


class BadCertificate(Exception):
    """The certificate cannot be served with. The message says what to do."""


def files(server: Server) -> tuple[Path, Path] | None:
    """The certificate's file (its chain, in PEM) and its private key's; None where the server speaks plainly. Raises
    BadCertificate."""
    if server.tls_cert is None and server.tls_key is None:
        return None
    if not server.tls_cert or not server.tls_key:
        given, missing = ("certificate", "--tls-key") if server.tls_cert else ("key", "--tls-cert")
        raise BadCertificate(f"a TLS {given} was given without its other half: add {missing} FILE.")
    cert, key = Path(server.tls_cert), Path(server.tls_key)
    for name, path in (("certificate", cert), ("key", key)):
        try:
            with path.open("rb") as file:
                file.read(1)
        except OSError as error:
            raise BadCertificate(f"the TLS {name} {path} cannot be read: {error.strerror}.") from error
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(cert, key, password=_no_password)
    except _UnderPassword as error:
        said = f"the TLS key {key} is under a password; take it off with: openssl pkey -in {key} -out {key}.plain"
        raise BadCertificate(said) from error
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            said = (
                f"the TLS key {key} belongs to another certificate than {cert}: give the pair that was made together."
            )
        else:
            said = f"{cert} and {key} are not a certificate and its key in PEM ({error.reason or 'unreadable'})."
        raise BadCertificate(said) from error
    return cert, key


class _UnderPassword(Exception):
    """The key asks for a password, and there is nobody to give one."""


def _no_password() -> str:
    raise _UnderPassword
