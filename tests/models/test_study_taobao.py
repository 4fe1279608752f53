"""The Taobao study: what is asked once of a shared past is the same, and parts stay apart."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest

from models import schema as schemas
from models.baselines.detector import Draw
from models.baselines.stack import Stack
from models.counters.aggregates import Memory
from models.dataset import Dataset, read, split
from models.network import Network
from models.schema import Schema
from models.training import objective
from models.training.members import halves
from scripts.study.contest import Entrant, Following, _without
from scripts.study.heard import past_of
from scripts.study.parts import Part, Read, material
from scripts.study.splits import FOLDS
from scripts.study.taobao import absent
from scripts.study.told import GROUPS, ways
from tests.models.conftest import Files, write_shop


@pytest.fixture(scope="module")
def known(
    files: Files, dataset: Dataset, shop: Schema, tmp_path_factory: pytest.TempPathFactory
) -> Read:
    """A history, a replica, two validation draws of the same people."""
    draws = []
    for seed in (7, 8):
        own = write_shop(tmp_path_factory.mktemp("draw"), users=60, seed=seed)
        data = read([files.data, own.data], [own.labels], shop, shop.window)
        draws.append(Part(data, np.flatnonzero(data.file == 1)))
    every = np.arange(len(dataset))
    return Read(Part(dataset, every), [Part(dataset, every[100:])], draws, draws)


def test_what_chooses_and_what_calibrates_is_not_fitted_to(known: Read) -> None:
    found = material(known, seed=3, crowds=1.0)
    parts = [set(part.tolist()) for part in (found.fit_on, found.choose_on, found.calibrate_on)]
    assert all(parts)
    assert len(set.union(*parts)) == sum(map(len, parts))
    judged = found.data.file[np.concatenate([found.choose_on, found.calibrate_on])]
    assert set(judged.tolist()) == {3, 5}  # the new files of the two draws
    assert (found.weight > 0).sum() == len(found.fit_on)
    campaigns = found.data.of("campaign")
    chosen, calibrated = (
        {campaigns[at] for at in part.tolist()} - {""}
        for part in (found.choose_on, found.calibrate_on)
    )
    assert chosen
    assert not chosen & calibrated


def test_a_past_that_is_asked_once_says_the_same(dataset: Dataset) -> None:
    fit_on, choose_on = split(dataset, (0.7, 0.3), 0)
    memory, later = Memory(), np.arange(len(dataset) // 2, len(dataset))
    usual = Stack(memory, 0, 1, folds=2, looks=2, fits=1)
    following = Following(memory, 0, 1, folds=2, looks=2, fits=1)
    for one in (usual, following):
        one.fit_draws([Draw(dataset, fit_on, choose_on)])
    following.past = int(later[0])
    expected = usual.score(dataset, later)
    for _ in range(2):
        np.testing.assert_allclose(following.score(dataset, later), expected, atol=1e-5)


def test_nobody_is_judged_by_an_encoder_that_learnt_from_them(dataset: Dataset) -> None:
    begin = len(dataset) // 2
    told = past_of(Part(dataset, np.arange(begin, len(dataset))), seed=3)
    learnt = halves(msgspec.structs.replace(dataset, labels=[None] * len(dataset)), 3)[:begin]
    assert (told == 1 - learnt).all()
    assert len(set(told.tolist())) == 2


def test_what_a_recipe_leaves_out_is_put_back() -> None:
    usual, weight = Network.embed, float(objective._GUESS_WEIGHT)
    with _without(Entrant(name="a", schema="shop", counted=False, guessing=False)):
        assert Network.embed is not usual
        assert float(objective._GUESS_WEIGHT) == 0
    assert Network.embed is usual
    assert weight == objective._GUESS_WEIGHT > 0


def test_folds_leave_out_two_families_and_windows_are_as_asked() -> None:
    assert absent("all") == ()
    assert absent("2") == FOLDS[2]
    assert Entrant(name="a", schema="shop", span_s=5).read_as.window.span_ms == 5000
    assert Entrant(name="a", schema="shop").read_as == schemas.load("shop")


def test_the_entrants_can_be_read() -> None:
    text = (Path(__file__).parents[2] / "scripts" / "study" / "entrants.json").read_bytes()
    entrants = msgspec.json.decode(text, type=list[Entrant])
    assert len({one.name for one in entrants}) == len(entrants)
    assert all(one.read_as.window.size == 64 for one in entrants)


def test_ways_leave_out_groups_of_counters_alone() -> None:
    plain, *made = ways("shop-counters", groups=True)
    every = plain.columns()
    assert len(made) == 2 * len(GROUPS)
    for way in made:
        dropped = sum(len(GROUPS[group]) for group in way.without)
        assert len(way.columns()) == len(every) - dropped
    assert ways("shop:14", groups=False)[0].read_as.window.span_ms == 14 * 86_400_000
