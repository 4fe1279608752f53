"""Certificates for tests, made by openssl: an authority, a server on loopback, a client."""

from __future__ import annotations

import subprocess
from pathlib import Path

from msgspec import Struct


class Certificates(Struct, frozen=True):
    """PEM files. `server` and `client` hold the key and the certificate, as Kafka wants them."""

    ca: Path
    server: Path
    client: Path


def make_certificates(folder: Path, client: str) -> Certificates:
    """Good for two days; `client` is the common name of the client."""
    folder.mkdir(parents=True, exist_ok=True)
    _openssl(
        folder,
        "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=tests -keyout ca.key -out ca.pem",
    )
    return Certificates(
        folder / "ca.pem",
        _signed(folder, "server", "localhost", "subjectAltName=DNS:localhost,IP:127.0.0.1"),
        _signed(folder, "client", client, "extendedKeyUsage=clientAuth"),
    )


def _signed(folder: Path, name: str, subject: str, extension: str) -> Path:
    (folder / f"{name}.ext").write_text(extension)
    _openssl(
        folder,
        f"req -newkey rsa:2048 -nodes -subj /CN={subject} -keyout {name}.key -out {name}.csr",
    )
    _openssl(
        folder,
        f"x509 -req -days 2 -in {name}.csr -CA ca.pem -CAkey ca.key -CAcreateserial "
        f"-extfile {name}.ext -out {name}.crt",
    )
    both = folder / f"{name}.pem"
    both.write_text((folder / f"{name}.key").read_text() + (folder / f"{name}.crt").read_text())
    return both


def _openssl(folder: Path, arguments: str) -> None:
    subprocess.run(["openssl", *arguments.split()], cwd=folder, check=True, capture_output=True)
