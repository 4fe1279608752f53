"""crowds.lua keeps the crowds that `core.crowd.join` keeps, visit by visit."""

from __future__ import annotations

import random
from importlib.resources import files

import numpy as np
import pytest

from stream_app.core.crowd import CAPACITY, KEPT, join, visits
from stream_app.edges.redis_client import connect
from tests.servers import RedisServer


@pytest.mark.parametrize("seed", range(3))
def test_whatever_comes_the_script_keeps_what_the_core_does(
    redis_server: RedisServer, seed: int
) -> None:
    """Few and many users, slow and fast; mostly one visit at a time, some late, some again."""
    dice = random.Random(seed)
    with connect(redis_server.url) as client:
        script = client.script_load(files("stream_app.edges").joinpath("crowds.lua").read_bytes())
        for trial in range(100):
            crowd, now = np.zeros((1, CAPACITY), np.uint64), 1000
            users, pace = dice.choice([3, 8, 20, 60]), dice.choice([0.1, 0.5, 0.9])
            for _ in range(dice.randrange(1, 80)):
                now += dice.choice([1, 1, 2, 50]) if dice.random() < pace else 0
                count = 1 if dice.random() < 0.8 else dice.randrange(1, 6)
                bucket = now - (dice.choice([1, 2, 9]) if dice.random() < 0.1 else 0)
                user = [dice.randrange(users) * 65537 for _ in range(count)]
                marks = [dice.randrange(4) for _ in range(count)]
                more = visits(
                    np.full(count, bucket, np.uint64), np.array(user, np.uint64), np.array(marks)
                )
                key = f"crowds:{seed}:{trial}"
                packed = np.sort(more)[::-1].astype(">u8").tobytes()
                counts = np.array([count], "<u4").tobytes()
                client.evalsha(script, 1, key, KEPT, 1000, counts, packed)
                crowd = join(crowd, more[None])
                kept = crowd[0][crowd[0] != 0][::-1]
                assert client.get(key) == kept.astype(">u8").tobytes()
