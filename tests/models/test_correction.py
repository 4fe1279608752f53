"""What the cleaned stream undoes: all with a perfect model, nothing without one."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from models.correction import Corrected, Profiles, Taste, correction

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
    assert found.hit_categories["polluted"].distance > found.categories["polluted"].distance > 0
    assert found.hit_items["polluted"].distance > found.items["polluted"].distance > 0
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
    assert 0.1 < undone["categories of misused accounts"] < 0.9
    assert 0.1 < undone["items of misused accounts"] < 0.9


def test_honest_events_put_away_count_as_harm(shop: Shop) -> None:
    found = shop.cleaned_of(~shop.anomalous)
    for profiles in (found.categories, found.items):
        assert profiles["cleaned"].distance > profiles["polluted"].distance


def test_profiles_are_apart_by_the_shares_that_would_have_to_move() -> None:
    # One user likes item 0 twice, then item 1 of the same category twice; a thief adds item 2.
    item = np.array([0, 0, 1, 1, 2])
    taste = Taste(np.zeros(5, np.int64), item, item // 2, np.array([1.0, 1, 1, 1, 4]))
    bad = np.array([0, 0, 0, 0, 1], bool)
    now = np.zeros(5, bool)
    polluted = correction(taste, bad, bad, now)
    assert polluted.hit_items["polluted"] == Profiles(1, 0.5)  # 1/2 1/2 0 against 1/4 1/4 1/2
    assert polluted.hit_categories["polluted"] == Profiles(1, 0.5)
    wrongly = correction(taste, bad, np.array([0, 0, 1, 1, 1], bool), now)
    assert wrongly.hit_items["cleaned"] == Profiles(1, 0.5)  # 1/2 1/2 against 1 0
    assert wrongly.hit_categories["cleaned"] == Profiles(1, 0.0)


def test_a_shop_without_categories_has_no_profiles_of_them_to_harm(shop: Shop) -> None:
    rng = np.random.default_rng(1)
    events = len(shop.taste.user)
    strength = rng.choice([0.1, 0.7, 3.0], events)  # shares of them do not always add up to 1
    taste = Taste(shop.taste.user, shop.taste.item, np.zeros(events, np.int64), strength)
    found = correction(taste, shop.anomalous, shop.anomalous, shop.later).undone()
    assert math.isnan(found["categories"])
    assert found["items"] == pytest.approx(1)


def test_who_has_nothing_new_to_find_is_not_counted(shop: Shop) -> None:
    nobody = correction(shop.taste, shop.anomalous, shop.anomalous, np.zeros_like(shop.later))
    assert nobody.recommended["truth"].users == 0
    assert math.isnan(nobody.undone()["recall"])
