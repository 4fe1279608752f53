"""Who made a bundle: an Ed25519 signature over its manifest, which has a hash of every other file.

Hashes tell damage; whoever may write the folder can make them anew. A signature they cannot make.

    signature.json   the public key, and the signature by its private half; both base64
"""

from __future__ import annotations

import base64
import os
from collections.abc import Collection
from pathlib import Path
from typing import Final

import msgspec
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from msgspec import Struct

from models import manifest as manifests
from stream_app.core.errors import Misconfigured

_WHAT: Final = b"shopsentry model bundle\n"  # so that no other signature of this key counts here


class Signature(Struct, frozen=True, forbid_unknown_fields=True):
    key: str
    signature: str


def make_key(path: Path) -> str:
    """Write a new private key, for its owner alone to read; returns the public one.

    Raises Misconfigured if the file exists already or cannot be written.
    """
    key = Ed25519PrivateKey.generate()
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    try:
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(pem)
    except OSError as error:
        raise Misconfigured(f"{path} cannot be written: {error.strerror}") from error
    return _text(key.public_key())


def sign(folder: Path, key_file: Path) -> tuple[str, str]:
    """Sign the bundle; returns its version and the public key that others have to trust.

    Raises BadBundle if the bundle is not whole, Misconfigured for a key that is none.
    """
    key = _private(key_file)
    version = manifests.check(folder, ()).version
    manifest = (folder / manifests.MANIFEST).read_bytes()
    made = Signature(_text(key.public_key()), base64.b64encode(key.sign(_WHAT + manifest)).decode())
    content = msgspec.json.format(msgspec.json.encode(made), indent=1)
    (folder / manifests.SIGNATURE).write_bytes(content + b"\n")
    return version, made.key


def check(folder: Path, trusted: Collection[str]) -> None:
    """One of the `trusted` public keys signed the manifest as it is. Raises BadBundle."""
    try:
        content = (folder / manifests.SIGNATURE).read_bytes()
        found = msgspec.json.decode(content, type=Signature)
        key, signature = _public(found.key), base64.b64decode(found.signature, validate=True)
    except FileNotFoundError:
        raise manifests.bad(
            folder, "it is not signed, and scorer.trusted_keys asks for a signature"
        ) from None
    except (OSError, msgspec.MsgspecError, ValueError) as error:
        told = f"its {manifests.SIGNATURE} is damaged ({manifests.short(error)})"
        raise manifests.bad(folder, told) from error
    if found.key not in trusted:
        raise manifests.bad(
            folder, f"it is signed by {found.key}, which is not among scorer.trusted_keys"
        )
    try:
        key.verify(signature, _WHAT + (folder / manifests.MANIFEST).read_bytes())
    except InvalidSignature:
        raise manifests.bad(folder, "its signature is of another manifest") from None


def _text(key: Ed25519PublicKey) -> str:
    return base64.b64encode(key.public_bytes_raw()).decode()


def _public(text: str) -> Ed25519PublicKey:
    """Raises ValueError."""
    return Ed25519PublicKey.from_public_bytes(base64.b64decode(text, validate=True))


def _private(path: Path) -> Ed25519PrivateKey:
    try:
        key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    except OSError as error:
        raise Misconfigured(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, TypeError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, Ed25519PrivateKey):
        raise Misconfigured(
            f"{path} is no private Ed25519 key in PEM, unencrypted; `shopsentry sign --new-key` "
            "makes one"
        )
    return key
