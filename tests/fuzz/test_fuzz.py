"""A few seeded mutations on every run; `scripts.fuzz` has the long ones."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from scripts.fuzz import CORPUS, bundles, fuzz, mutate, parts, records, seeds, try_record
from scripts.fuzz_parts import PARTS, Parts

GOOD = ("event", "text-time", "envelope", "envelope-text-time")
LONG_S = 600.0  # the count of tries ends the tests, not the time


def test_no_mutated_record_breaks_the_decoder(tmp_path: Path) -> None:
    seen, broken = fuzz(records(random.Random(1)), LONG_S, 4000, tmp_path / "found")
    assert broken == 0, [p.read_text() for p in (tmp_path / "found").glob("*.txt")][:3]
    assert {"event", "invalid", "not-json", "not-utf8"} <= set(seen)


def test_no_mutated_file_of_a_bundle_breaks_its_reader(tmp_path: Path) -> None:
    seen, broken = fuzz(parts(random.Random(1), tmp_path), LONG_S, 1500, tmp_path / "found")
    assert broken == 0, [p.read_text() for p in (tmp_path / "found").glob("*.txt")][:3]
    assert {"refused", "read"} <= set(seen)


def test_each_file_of_a_good_bundle_is_read(tmp_path: Path) -> None:
    readers = Parts(tmp_path)
    assert [readers.read(file) for file in readers.good()] == ["read"] * len(PARTS)


@pytest.mark.parametrize("target", ["records", "parts"])
def test_what_was_found_before_is_still_fine(target: str, tmp_path: Path) -> None:
    attempt = {"records": try_record, "parts": Parts(tmp_path).read}[target]
    assert all(attempt(seed) for seed in seeds(target))


def test_every_record_to_begin_with_is_an_event() -> None:
    assert all(
        try_record((CORPUS / "records" / f"{name}.json").read_bytes()) == "event" for name in GOOD
    )


def test_no_mutated_bundle_is_loaded_half_or_breaks_the_loader(tmp_path: Path) -> None:
    seen, broken = fuzz(bundles(random.Random(1), tmp_path), LONG_S, 30, tmp_path / "found")
    assert broken == 0, [p.read_text() for p in (tmp_path / "found").glob("*.txt")][:3]
    assert seen["refused"] > 5
    assert set(seen) <= {"refused", "loaded"}


def test_what_breaks_the_rule_is_kept(tmp_path: Path) -> None:
    def fails() -> str:
        raise KeyError("x")

    _, broken = fuzz(lambda: (b"input", fails), LONG_S, 2, tmp_path)
    assert broken == 2
    assert (tmp_path / "0001.bin").read_bytes() == b"input"
    assert "KeyError" in (tmp_path / "0002.txt").read_text()


def test_mutations_follow_the_seed() -> None:
    made = [[mutate(b"abcdef", d, [b"xyz"]) for _ in range(20)] for d in map(random.Random, (1, 1))]
    assert made[0] == made[1]
    assert len(set(made[0])) > 10
