"""What counters forget, so that no user and no item grows without an end."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
from msgspec import msgpack

from models.counters.act import DAY, HOUR, NAN, Act, Fields
from models.counters.aggregates import Stream
from models.counters.at_hand import AtHand
from models.counters.keep import FORGET_S, KEPT
from stream_app.core.ports import Key

USER, FIELDS = 7, Fields(("item", "category", "query"), ("price",), ())


def act(at_s: float, thing: int, *, user: int = USER, query: int = 0) -> Act:
    return Act(user, at_s, 0, thing, thing, (query,), (NAN,))


@pytest.mark.parametrize("rest_s", [1.0, 3600.0])
def test_a_robot_that_comes_to_ever_new_things_stays_small(rest_s: float) -> None:
    stream, sizes = Stream(FIELDS), list[int]()
    for number in range(4 * KEPT):
        found = stream.step(act(number * rest_s, number + 1))
        if number % KEPT == KEPT - 1:
            sizes.append(len(msgpack.encode(stream.state.users[USER])))
    assert max(sizes[1:]) <= 1.1 * sizes[0]
    assert found[stream.names.index("session items")] == 1.0
    assert found[stream.names.index("session groups")] == 1.0


def test_a_store_may_drop_what_was_not_written_for_so_long() -> None:
    """Things that expire count as things that are forgotten, and nothing else does."""
    dice = random.Random(5)
    whole, bare, written = Stream(FIELDS), Stream(FIELDS), dict[Key, float]()
    at_hand, now = AtHand(bare.state, 1 << 30), 0.0
    kinds: dict[bytes, dict[int, Any]] = {
        b"u": bare.state.users,
        b"i": bare.state.items,
        b"g": bare.state.groups,
        b"0": bare.state.others[0],
    }
    for _ in range(4000):
        now += dice.choice((1.0, HOUR, DAY / 2, 4 * DAY, 10 * DAY, 31 * DAY))
        late_s = dice.choice((0.0, 0.0, DAY / 2))
        one = act(
            now - late_s, dice.randint(0, 6), user=dice.randint(1, 6), query=dice.randint(0, 6)
        )
        for key in [key for key, at_s in written.items() if now - at_s > FORGET_S + DAY]:
            kinds[key[0]].pop(key[1], None)
            del written[key]
        touched = at_hand.named([one]) | at_hand.left([one])
        np.testing.assert_array_equal(whole.step(one), bare.step(one))
        written |= dict.fromkeys(touched, now)
