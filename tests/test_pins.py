"""The lists of packages: exact versions with hashes, the same in all lists, and installed."""

from __future__ import annotations

import re
from importlib.metadata import PackageNotFoundError, version

import pytest
from packaging.markers import Marker

from tests.servers import ROOT

PINS = ROOT / "scripts" / "requirements"
LISTS = ("run", "train", "dev", "uv", "fuzz")
APART = ("peers",)  # an environment of its own
PIN = re.compile(
    r"([a-z0-9-]+)(?:\[[a-z0-9,-]+\])?==(\S+)(?: ; (.+?))?((?: --hash=sha256:[0-9a-f]{64})+)"
)


def pins(name: str) -> dict[tuple[str, str], tuple[str, bool]]:
    """(package, marker) -> (version, whether it is for this machine) of a list."""
    text = (PINS / f"{name}.txt").read_text().replace("\\\n", " ")
    found = {}
    for line in text.splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        pin = PIN.fullmatch(re.sub(r"\s+", " ", line).strip())
        assert pin is not None, f"{name}.txt: {line[:80]}"
        marker = pin[3] or ""
        found[pin[1], marker] = (pin[2], not marker or Marker(marker).evaluate())
    return found


def here(name: str) -> dict[str, str]:
    """The versions of a list that are for this machine."""
    return {package: at for (package, _), (at, for_us) in pins(name).items() if for_us}


@pytest.mark.parametrize("name", LISTS + APART)
def test_every_line_is_an_exact_version_with_hashes(name: str) -> None:
    assert pins(name)


def test_the_lists_agree() -> None:
    known: dict[str, str] = {}
    for name in LISTS:
        for package, at in here(name).items():
            assert known.setdefault(package, at) == at, package


def test_the_script_that_trains_asks_for_what_training_needs() -> None:
    script = (ROOT / "scripts" / "make_pretrained").read_text()
    asked = re.findall(r"^scripts/setup (\w+)", script, re.MULTILINE)
    assert [{"accelerate", "tensorboard", "torch"} <= set(here(kind)) for kind in asked] == [True]


def test_what_is_installed_is_what_is_pinned() -> None:
    wanted = here("dev") | here("uv")
    for package, at in wanted.items():
        try:
            assert version(package) == at, package
        except PackageNotFoundError:
            pytest.fail(f"{package} is pinned and not installed: scripts/setup dev")
