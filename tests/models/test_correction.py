"""What the cleaned stream undoes: all with a perfect model, nothing without one."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from models.correction import Corrected, Taste, correction

USERS, TASTES, ITEMS = 60, 6, 20  # people, categories, items in each
Flags = NDArray[np.bool_]


class Shop:
    """People keep to one category, mostly; bots and stolen accounts push three items at all."""

    def __init__(self) -> None:
        rng = np.random.default_rng(4)
        likes = []
        for user in range(USERS):
            own = user % TASTES
            likes += [(user, own * ITEMS + int(rng.integers(ITEMS)), False) for _ in range(12)]
        for bot in range(40):
            pushed = TASTES * ITEMS + bot % 3
            likes += [
                (USERS + bot, item, True) for item in (*rng.integers(120, size=9).tolist(), pushed)
            ]
        for user in range(0, USERS, 3):  # stolen accounts
            likes += [(user, TASTES * ITEMS + pushed, True) for pushed in range(3)]
        order = rng.permutation(len(likes))
        user, item, bad = np.array(likes).T[:, order]
        self.taste = Taste(user, item, item // ITEMS, np.ones(len(likes)))
        self.anomalous: Flags = bad == 1
        self.later = np.arange(len(likes)) > 0.7 * len(likes)

    def cleaned_of(self, quarantined: Flags) -> Corrected:
        return correction(self.taste, self.anomalous, quarantined, self.later)


@pytest.fixture(scope="module")
def shop() -> Shop:
    return Shop()


def test_attacks_do_damage_to_begin_with(shop: Shop) -> None:
    found = shop.cleaned_of(shop.anomalous)
    assert found.recommended["polluted"].recall < found.recommended["truth"].recall
    assert found.hit_profiles["polluted"].distance > found.all_profiles["polluted"].distance > 0
    assert found.popular["polluted"] < 1


def test_a_perfect_quarantine_undoes_all_of_it(shop: Shop) -> None:
    undone = shop.cleaned_of(shop.anomalous).undone()
    assert undone == {measure: pytest.approx(1) for measure in undone}


def test_without_quarantine_nothing_is_undone(shop: Shop) -> None:
    undone = shop.cleaned_of(np.zeros_like(shop.anomalous)).undone()
    assert undone == {measure: pytest.approx(0) for measure in undone}


def test_half_of_the_attacks_found_undoes_a_part(shop: Shop) -> None:
    found = shop.anomalous & (np.arange(len(shop.anomalous)) % 2 == 0)
    undone = shop.cleaned_of(found).undone()
    assert 0.1 < undone["profiles of misused accounts"] < 0.9


def test_honest_events_put_away_count_as_harm(shop: Shop) -> None:
    profiles = shop.cleaned_of(~shop.anomalous).all_profiles
    assert profiles["cleaned"].distance > profiles["polluted"].distance


def test_who_has_nothing_new_to_find_is_not_counted(shop: Shop) -> None:
    nobody = correction(shop.taste, shop.anomalous, shop.anomalous, np.zeros_like(shop.later))
    assert nobody.recommended["truth"].users == 0
    assert math.isnan(nobody.undone()["recall"])
