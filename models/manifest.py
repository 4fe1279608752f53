"""The manifest of a bundle's folder: which files belong to it, unchanged, under which version."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

from models.schema import Schema
from models.schema import load as load_schema
from stream_app.core.errors import BadBundle

FORMAT: Final = 2
MANIFEST: Final = "manifest.json"
SIGNATURE: Final = "signature.json"  # of the manifest, if somebody signed it
_FILE: Final = re.compile(r"([a-z0-9][a-z0-9-]*/)?[a-z0-9][a-z0-9-]*\.[a-z0-9]+")


class Manifest(Struct, frozen=True, kw_only=True):
    format: int
    version: str
    sha256: dict[str, str]  # file, with the folder of a member before it -> hash


def unseal(folder: Path) -> None:
    """Until `seal`, nothing loads from here."""
    (folder / MANIFEST).unlink(missing_ok=True)
    (folder / SIGNATURE).unlink(missing_ok=True)


def seal(folder: Path, name: str, files: Sequence[str]) -> str:
    """Write the manifest over `files`, once they are complete. Returns the version.

    A signature is gone then: it was of the manifest before.
    """
    unseal(folder)
    for file in files:
        (folder / file).chmod(0o644)  # safetensors are written for their owner alone
    hashes = {file: _hash(folder / file) for file in files}
    version = _version(name, hashes)
    content = msgspec.json.encode(Manifest(format=FORMAT, version=version, sha256=hashes))
    (folder / MANIFEST).write_bytes(msgspec.json.format(content, indent=1) + b"\n")
    return version


def check(folder: Path, needed: Sequence[str]) -> Manifest:
    """Read it; all its files, and those that are `needed`, are as they were written.

    Raises BadBundle.
    """
    if not folder.is_dir():
        raise BadBundle(
            f"There is no model bundle at {folder}: no such folder. "
            "Give the folder that `train` wrote, or leave the setting out to use the shipped model."
        )
    if not (folder / MANIFEST).is_file():
        raise bad(
            folder, "it has no manifest.json, so it is no bundle or was not written to the end"
        )
    try:
        manifest = msgspec.json.decode((folder / MANIFEST).read_bytes(), type=Manifest)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise bad(folder, f"its manifest.json is damaged ({short(error)})") from error
    if manifest.format != FORMAT:
        raise BadBundle(
            f"The model bundle at {folder} has format {manifest.format}; this program reads format "
            f"{FORMAT}. Train it again with this version, or run the version that made it."
        )
    for file in (*needed, *manifest.sha256):
        if not _FILE.fullmatch(file):
            raise bad(folder, f"its manifest.json names {file!r}, which is no file of a bundle")
        if file not in manifest.sha256 or not (folder / file).is_file():
            raise bad(folder, f"{file} is missing")
    for file, known in manifest.sha256.items():
        if _hash(folder / file) != known:
            raise bad(folder, f"{file} is not the file that was written with it")
    if manifest.version != _version(manifest.version.rpartition("-")[0], manifest.sha256):
        raise bad(folder, "its version does not belong to its files")
    return manifest


def prove(folder: Path, needed: Sequence[str], trusted: Collection[str]) -> Manifest:
    """`check`; and one of the `trusted` public keys has signed it, if there are any.

    Raises BadBundle.
    """
    manifest = check(folder, needed)
    if trusted:
        from models import signature  # needs cryptography, which a GPU machine may lack

        signature.check(folder, trusted)
    return manifest


def schema_of(folder: Path, trusted: Collection[str]) -> Schema:
    """The schema of a bundle that is proven, whose weights are not loaded. Raises BadBundle."""
    prove(folder, ("schema.toml",), trusted)
    return load_schema(folder / "schema.toml")


def bad(folder: Path, what: str) -> BadBundle:
    return BadBundle(
        f"The model bundle at {folder} cannot be used: {what}. Copy the whole folder again from "
        "where it was made, or train it anew."
    )


def short(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]


def _hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _version(name: str, hashes: Mapping[str, str]) -> str:
    content = "".join(f"{file} {hashes[file]}\n" for file in sorted(hashes))
    return f"{name}-{hashlib.sha256(content.encode()).hexdigest()[:8]}"
