"""The independent simulator of attacks, on a small shop of its own."""

import csv
from pathlib import Path

import numpy as np
import pytest

from models.simulate.world import DIFFICULTIES
from scripts.study import independent
from scripts.study.independent_attacks import FAMILIES, campaign
from scripts.study.independent_honest import LOOK_ALIKES
from scripts.study.independent_shop import FROM_S, TO_S, Draw, Shop
from scripts.study.splits import DAY_S, FIRST_S, Background, Part, background, read


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Background:
    rng = np.random.default_rng(7)
    rows: list[tuple[object, ...]] = []
    for _ in range(2500):
        at_s = int(rng.integers(FIRST_S, FIRST_S + 9 * DAY_S - 3600))
        user = int(rng.integers(1_000_000, 1_000_150))
        for _ in range(int(rng.integers(4, 16))):
            item = int(1000 * rng.pareto(1.0)) % 4000 + 1
            kind = rng.choice(["pv", "cart", "fav", "buy"], p=[0.9, 0.05, 0.03, 0.02])
            rows.append((user, item, item % 60, kind, at_s))
            at_s += int(rng.exponential(90))
    path = tmp_path_factory.mktemp("independent") / "events.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return background(read(path))


@pytest.fixture(scope="module")
def shop(real: Background) -> Shop:
    return Shop(real)


@pytest.fixture(scope="module")
def parts(real: Background, shop: Shop) -> list[Part]:
    return [independent.test(shop, real.last, number, 1) for number in range(20)]


def test_the_same_seed_makes_the_same_draw(real: Background, parts: list[Part]) -> None:
    again = independent.test(Shop(real), real.last, 3, 1)
    assert again == parts[3]
    assert independent.test(Shop(real), real.last, 3, 2) != parts[3]


def test_attacks_are_as_rare_as_told(parts: list[Part]) -> None:
    for part in parts:
        share = sum(label.label for label in part.labels) / len(part.events)
        assert 0.004 < share < 0.01
        share = sum(label.look_alike is not None for label in part.labels) / len(part.events)
        assert 0.01 < share < 0.03
        sizes = [label.campaign for label in part.labels if label.campaign]
        assert max(sizes.count(one) for one in sizes) <= independent.CAMPAIGN_EVENTS


def test_every_event_has_its_label_and_an_id_of_its_own(
    real: Background, parts: list[Part]
) -> None:
    untouched = {str(event["event_id"]): event for event in real.last}
    for part in parts:
        ids = [str(event["event_id"]) for event in part.events]
        assert ids == [label.event_id for label in part.labels]
        assert len(set(ids)) == len(ids)
        times = [int(str(event["event_time"])) for event in part.events]
        assert times == sorted(times)
        assert times[0] >= FROM_S * 1000
        assert times[-1] < TO_S * 1000
        kept = [event for event in part.events if event["event_id"] in untouched]
        assert kept == real.last
        for event, label in zip(part.events, part.labels, strict=True):
            spliced = label.label == 1 or label.look_alike is not None
            assert spliced == (event["event_id"] not in untouched)


def test_labels_tell_attacks_from_look_alikes(real: Background, parts: list[Part]) -> None:
    people = {event["user_id"] for event in real.last}
    for part in parts:
        for event, label in zip(part.events, part.labels, strict=True):
            named = (label.attack, label.difficulty, label.campaign, label.place)
            if label.label:
                assert None not in named
                assert label.look_alike is None
                assert label.place == ("real" if event["user_id"] in people else "new")
            else:
                assert named == (None,) * 4


def test_each_family_level_and_look_alike_has_its_turn(parts: list[Part]) -> None:
    labels = [label for part in parts for label in part.labels]
    pairs = {(label.attack, label.difficulty) for label in labels if label.label}
    assert pairs == {(name, level) for name in FAMILIES for level in DIFFICULTIES}
    assert {label.look_alike for label in labels if label.look_alike} == set(LOOK_ALIKES)
    assert {label.place for label in labels if label.label} == {"new", "real"}


@pytest.mark.parametrize("size", [3, 17, 50])
def test_whatever_is_asked_for_comes_in_full(shop: Shop, size: int) -> None:
    draw = Draw(shop, np.random.default_rng(size))
    for name in FAMILIES:
        for level in DIFFICULTIES:
            assert len(campaign(draw, name, level, size)[1]) == size
    for kind in LOOK_ALIKES.values():
        assert len(kind(draw, size)) == size


def test_the_audit_names_each_field(real: Background, parts: list[Part]) -> None:
    found = independent.audit(parts[:4], real)
    assert {"item", "category", "hour", "second", "gap"} <= set(found)
    assert all(0 <= value <= 1 for value in found.values())


def test_the_command_writes_events_and_labels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, real: Background
) -> None:
    monkeypatch.setattr(independent, "read", lambda _: [])
    monkeypatch.setattr(independent, "background", lambda _: real)
    monkeypatch.setattr(
        "sys.argv", ["independent", "--data", "-", "--out", str(tmp_path), "--draws", "2"]
    )
    independent.main()
    for number in range(2):
        events = (tmp_path / f"test-{number}.jsonl").read_bytes().splitlines()
        labels = (tmp_path / f"test-{number}.labels.jsonl").read_bytes().splitlines()
        assert len(events) == len(labels) > len(real.last)
