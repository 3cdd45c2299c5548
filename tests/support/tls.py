"""Certificates for the TLS tests."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path

import trustme


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """PEM files: an authority, and a certificate with its key for server and client each."""

    authority: Path
    certificate: Path
    key: Path
    client_certificate: Path
    client_key: Path

    def server_context(self) -> ssl.SSLContext:
        """Return the context of a server that shows its certificate."""
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(self.certificate, self.key)
        return context


def tls_files(directory: Path, *names: str) -> TlsFiles:
    """Write an authority's certificates into `directory`.

    The server's is for `names`, 127.0.0.1 and localhost if there are none.
    """
    authority = trustme.CA()
    server = authority.issue_cert(*(names or ("127.0.0.1", "localhost")))
    client = authority.issue_cert("client.test")
    files = TlsFiles(
        authority=directory / "ca.pem",
        certificate=directory / "server.pem",
        key=directory / "server.key",
        client_certificate=directory / "client.pem",
        client_key=directory / "client.key",
    )
    authority.cert_pem.write_to_path(str(files.authority))
    _write(server, files.certificate, files.key)
    _write(client, files.client_certificate, files.client_key)
    return files


def _write(issued: trustme.LeafCert, certificate: Path, key: Path) -> None:
    issued.cert_chain_pems[0].write_to_path(str(certificate))
    issued.private_key_pem.write_to_path(str(key))
