from __future__ import annotations

import random

import lightgbm
import numpy as np
import pytest

from models import tree_text, trees
from models.trees import Trees

NAMES = ("time since the same item", "price, relative", "position")


def table(seed: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    facts = rng.normal(0, 2, (count, len(NAMES))).astype(np.float32)
    facts[rng.random(facts.shape) < 0.1] = np.nan
    return facts, np.nan_to_num(facts[:, 0] * facts[:, 1]) + rng.normal(0, 1, count) > 4


@pytest.fixture(scope="module")
def grown() -> Trees:
    return trees.fit(*table(0, 3000), *table(1, 1000), NAMES)


def test_the_same_table_grows_the_same_trees(grown: Trees) -> None:
    assert trees.fit(*table(0, 3000), *table(1, 1000), NAMES).text == grown.text
    assert 1 < grown.count < trees.ROUNDS  # stopped where the average precision was best
    assert trees.fit(*table(0, 3000), *table(1, 1000), NAMES, seed=1).text != grown.text


def test_trees_read_from_their_text_say_the_same(grown: Trees) -> None:
    facts, anomalous = table(2, 500)
    found = Trees(grown.text, NAMES).raw(facts)
    np.testing.assert_array_equal(found, grown.raw(facts))
    assert found[anomalous].mean() > found[~anomalous].mean() + 1
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found[::-1], grown.raw(facts[::-1]))
    assert len(grown.raw(facts[:0])) == 0


def test_the_text_is_cut_down_to_what_scoring_reads(grown: Trees) -> None:
    facts, anomalous = table(0, 3000)
    data = lightgbm.Dataset(facts, anomalous.astype(np.int8))
    recipe = {"objective": "binary", "verbosity": -1, "num_threads": 1}
    whole = lightgbm.train(recipe, data, 5).model_to_string()
    names = [f"Column_{at}" for at in range(3)]
    text = tree_text.slim(whole, names)
    assert len(text) < len(whole) / 2
    before, after = (
        lightgbm.Booster(model_str=t).predict(facts, raw_score=True, num_threads=1)
        for t in (whole, text)
    )
    np.testing.assert_array_equal(before, after)
    with pytest.raises(ValueError, match="something else among its trees"):
        tree_text.checked(whole, names)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda t: "", "there is no tree"),
        (lambda t: t.replace("left_child=1", "left_child=0", 1), "circle|not in one place"),
        (lambda t: t.replace("split_feature=", "split_feature=9 ", 1), "not as many"),
        (lambda t: t.replace("split_feature=1", "split_feature=7", 1), "a fact that there is not"),
        (lambda t: t.replace("leaf_value=", "leaf_value=nan ", 1), "not as many numbers"),
        (lambda t: t.replace("num_leaves=15", "num_leaves=99999", 1), "too many leaves"),
        (lambda t: t.replace("num_cat=0", "num_cat=3", 1), "too many leaves"),
        (lambda t: t.replace("tree_sizes=", "tree_sizes=9", 1), "something else"),
        (lambda t: t + "pandas_categorical:[[]]\n", "something else"),
        (lambda t: t.replace("price", "weight"), "other facts"),
    ],
)
def test_a_text_that_is_no_trees_is_refused(grown: Trees, change: object, complaint: str) -> None:
    assert callable(change)
    with pytest.raises(ValueError, match=complaint):
        Trees(change(grown.text), NAMES)


def test_whatever_text_passes_the_check_can_be_read(grown: Trees) -> None:
    dice, facts = random.Random(3), table(3, 20)[0]
    end = grown.text.index("\nTree=1\n")
    few = tree_text.slim(grown.text[:end] + "\nend of trees\n", trees._written(NAMES))
    passed = 0
    for _ in range(600):
        letters = list(few)
        at = dice.randrange(len(letters))
        letters[at] = dice.choice("0123456789.-e \n=") if dice.random() < 0.7 else ""
        try:
            text = tree_text.checked("".join(letters), trees._written(NAMES))
        except ValueError:
            continue
        lightgbm.Booster(model_str=text).predict(facts, num_threads=1)
        passed += 1
    assert 0 < passed < 300


def test_trees_need_both_kinds_of_events() -> None:
    facts, anomalous = table(0, 500)
    for flags in (anomalous & False, anomalous | True):
        with pytest.raises(ValueError, match="anomalies and normal events"):
            trees.fit(facts, flags, facts, anomalous, NAMES)


def test_weights_change_what_trees_learn(grown: Trees) -> None:
    facts, anomalous = table(0, 3000)
    weight = np.where(anomalous, 9.0, 1.0).astype(np.float32)
    held = table(1, 1000)
    heavy = trees.fit(facts, anomalous, *held, NAMES, weight=weight)
    assert heavy.raw(held[0]).mean() > grown.raw(held[0]).mean() + 0.5


def test_few_anomalies_choose_nothing() -> None:
    (chosen, flags), nobody = table(1, 300), np.zeros(0, np.bool_)
    assert 0 < flags.sum() < 50
    found = trees.fit(*table(0, 1500), chosen, flags, NAMES)
    assert found.count == 150
    assert found.text == trees.fit(*table(0, 1500), chosen[:0], nobody, NAMES).text
