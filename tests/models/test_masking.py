from __future__ import annotations

import numpy as np

from models.masking import Masking, mask_events


def masked(count: int = 2000, seed: int = 0) -> tuple[np.ndarray, Masking]:
    ids = np.random.default_rng(1).integers(0, 1 << 63, (count, 20)).astype(np.uint64)
    valid = np.arange(20) < np.random.default_rng(2).integers(1, 21, count)[:, None]
    return valid, mask_events(ids, valid, seed)


def test_the_same_ids_and_seed_mask_the_same_and_another_seed_others() -> None:
    _, one = masked()
    _, again = masked()
    _, other = masked(seed=1)
    assert all(np.array_equal(a, b) for a, b in zip(one, again, strict=True))
    assert not np.array_equal(one.guessed, other.guessed)


def test_an_event_is_masked_alike_whatever_stands_beside_it() -> None:
    ids = np.arange(1000, dtype=np.uint64).reshape(50, 20)
    whole = mask_events(ids, np.ones(ids.shape, bool), 7)
    part = mask_events(ids[10:20], np.ones((10, 20), bool), 7)
    np.testing.assert_array_equal(whole.guessed[10:20], part.guessed)
    np.testing.assert_array_equal(whole.hidden[10:20], part.hidden)


def test_15_percent_are_guessed_of_which_80_are_hidden_and_10_exchanged() -> None:
    valid, masking = masked()
    own = np.arange(valid.size).reshape(valid.shape)
    exchanged = masking.source != own
    assert abs(masking.guessed.sum() / valid.sum() - 0.15) < 0.01
    assert abs(masking.hidden.sum() / masking.guessed.sum() - 0.8) < 0.03
    assert abs(exchanged.sum() / masking.guessed.sum() - 0.1) < 0.03


def test_filling_is_never_guessed_nor_shown() -> None:
    valid, masking = masked()
    assert not (masking.guessed & ~valid).any()
    assert valid.reshape(-1)[masking.source[valid]].all()
