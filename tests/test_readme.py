"""What the README names exists: its files, its commands, its settings and their defaults."""

from __future__ import annotations

import re

import pytest

from stream_app.cli import COMMANDS
from stream_app.settings import listing
from tests.servers import ROOT

README = (ROOT / "README.md").read_text()
LINKS = re.findall(r"\]\((?!http)([^)#]+)\)", README)
TREE = README.split("## The tree")[1].split("```")[1]


@pytest.mark.parametrize("path", LINKS)
def test_a_link_leads_somewhere(path: str) -> None:
    assert (ROOT / path).exists()


def test_everything_in_the_tree_exists() -> None:
    folder = ""
    for line in TREE.strip().splitlines():
        name = line.split()[0]
        folder = folder if line.startswith(" ") else name
        assert (ROOT / (folder + name if line.startswith(" ") else name)).exists(), line


def test_every_command_in_it_is_one_and_none_is_left_out() -> None:
    named = set(re.findall(r"shopsentry ([a-z]+)", README))
    assert named <= set(COMMANDS)
    assert set(COMMANDS) - {"demo"} <= named  # the demo has its script
    for script in re.findall(r"^scripts/[\w./]+", README, re.MULTILINE):
        assert (ROOT / script).exists(), script


def test_settings_are_as_it_says() -> None:
    known = {s.name: s.default for s in listing()}
    table = re.findall(r"^\| `([\w.]+)` \| `?([^`|]*?)`? \|", README, re.MULTILINE)
    assert len(table) > 5
    for name, default in table:
        assert known[name] == default, name
