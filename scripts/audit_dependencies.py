"""Which pinned packages have a known hole, by a copy of PyPA's advisory database. No network.

    git clone https://github.com/pypa/advisory-database
    .venv/bin/python -m scripts.audit_dependencies --advisories advisory-database

Where there is a network, `pip-audit` asks a newer one. Tells the date of the newest advisory in the
copy, as it knows nothing after that. Ends with 1 if there is a hole.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import yaml
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

LISTS: Final = Path(__file__).with_name("requirements")
_PIN: Final = re.compile(r"^([A-Za-z0-9._-]+)(?:\[[^\]]*\])?==([^\s;\\]+)", re.MULTILINE)


def pins(folder: Path = LISTS) -> dict[str, set[str]]:
    """Versions of each package in all lists of a folder."""
    found: dict[str, set[str]] = {}
    for path in sorted(folder.glob("*.txt")):
        for name, version in _PIN.findall(path.read_text("utf-8")):
            found.setdefault(canonicalize_name(name), set()).add(version)
    return found


def concerns(advisory: dict[str, Any], name: str, version: str) -> bool:
    """Whether it says that this version has the hole: by its list of versions, or by a range."""
    for one in advisory.get("affected", ()):
        if canonicalize_name(one["package"]["name"]) != name:
            continue
        if version in map(str, one.get("versions", ())):
            return True
        for span in one.get("ranges", ()):
            if span["type"] == "ECOSYSTEM" and _within(span["events"], Version(version)):
                return True
    return False


def _within(events: Sequence[dict[str, Any]], version: Version) -> bool:
    """Events in order: the last one that is not above the version decides. One at a version that
    cannot be read mends nothing, and may bring a hole: that is for people to look at.
    """
    inside = False
    for event in events:
        (what, at), *_ = event.items()
        edge = Version("0.dev0") if str(at) == "0" else _version(at)
        if edge is None:
            inside = inside or what == "introduced"
        elif what == "introduced" and version >= edge:
            inside = True
        elif (what == "fixed" and version >= edge) or (what == "last_affected" and version > edge):
            inside = False
    return inside


def _version(text: object) -> Version | None:
    try:
        return Version(str(text))
    except InvalidVersion:
        return None


def advisories(folder: Path) -> Iterator[dict[str, Any]]:
    """Those that were not withdrawn."""
    for path in sorted(folder.glob("vulns/*/*.yaml")):
        found = yaml.load(path.read_bytes(), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        if not found.get("withdrawn"):
            yield found


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--advisories", type=Path, required=True, help="the database's folder")
    given = parser.parse_args(arguments)
    pinned, known, newest, holes = pins(), 0, "", 0
    for one in advisories(given.advisories):
        known, newest = known + 1, max(newest, str(one.get("published", one["modified"])))
        for name in {canonicalize_name(a["package"]["name"]) for a in one.get("affected", ())}:
            for version in sorted(pinned.get(name, ())):
                if concerns(one, name, version):
                    holes += 1
                    also = ", ".join(one.get("aliases", ()))
                    print(f"{name} {version}: {one['id']} ({also})")
    if not known:
        parser.error(f"there are no advisories in {given.advisories}")
    print(f"{len(pinned)} packages, {known} advisories, the newest of {newest[:10]}: {holes} holes")
    return int(holes > 0)


if __name__ == "__main__":
    sys.exit(main())
