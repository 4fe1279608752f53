"""What counters forget, so that no user and no item grows without an end."""

from __future__ import annotations

import pytest
from msgspec import msgpack

from models.counters.act import NAN, Act, Fields
from models.counters.aggregates import Stream
from models.counters.keep import KEPT

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
