"""What is derived of an event never looks at a later one, and is what a naive loop says."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from models import schema as schemas
from models.encoding import SchemaEncoder
from models.features import Columns, columns, describe, fact_names, facts, numbers
from models.schema import Schema
from stream_app.core.event import Event


def window(shop: Schema, seed: int, count: int) -> tuple[list[Event], Columns]:
    dice = np.random.default_rng(seed)
    at_ms = 1_763_900_000_000 + np.cumsum(dice.choice([0, 300, 300, 9_000, 700_000], count))
    events = [
        Event(
            user_id="u",
            event_id=f"{seed}-{n}",
            type=str(dice.choice(shop.type_names)),
            at_ms=int(at_ms[n]),
            item_id=str(dice.choice(["a", "b", "c"])),
            category_id=str(dice.choice(["x", "y"])) if dice.random() < 0.8 else None,
            price=float(dice.choice([1.0, 5.0, 20.0])) if dice.random() < 0.7 else None,
        )
        for n in range(count)
    ]
    held = columns(shop, SchemaEncoder(shop).encode(events))
    return events, held.gather(torch.arange(count)[None])


def test_later_events_change_nothing_that_is_derived_of_earlier_ones(shop: Schema) -> None:
    _, whole = window(shop, seed=1, count=40)
    _, other = window(shop, seed=2, count=40)
    changed = Columns(
        *(torch.cat([w[:, :25], o[:, 25:]], 1) for w, o in zip(whole, other, strict=True))
    )
    rest_ms = whole.at_ms[:, 24:25] + other.at_ms[:, 25:] - other.at_ms[:, 25:26]
    changed = changed._replace(at_ms=torch.cat([whole.at_ms[:, :25], rest_ms], 1))
    ours, theirs = describe(shop, whole), describe(shop, changed)
    torch.testing.assert_close(ours[:, :25], theirs[:, :25], rtol=0, atol=1e-6, equal_nan=True)
    assert not torch.equal(ours[:, 25:].nan_to_num(0), theirs[:, 25:].nan_to_num(0))


def test_a_window_has_the_same_numbers_alone_and_filled_up(shop: Schema) -> None:
    _, held = window(shop, seed=3, count=9)
    filled = held.gather(torch.arange(1)).gather(torch.tensor([0]))
    filled = Columns(*(c[:, [*range(9), *[8] * 55]] for c in filled))
    torch.testing.assert_close(
        describe(shop, held)[0], describe(shop, filled)[0, :9], rtol=0, atol=1e-6, equal_nan=True
    )


def test_counts_are_those_of_a_plain_loop(shop: Schema) -> None:
    events, held = window(shop, seed=4, count=30)
    found = describe(shop, held)[0]
    at = {n.name: place for place, n in enumerate(numbers(shop))}
    for place, event in enumerate(events):
        before = events[:place]
        same = [e for e in before if e.item_id == event.item_id]
        near = [e for e in before if event.at_ms - e.at_ms <= 10_000]
        prices = [
            math.log1p(e.price)
            for e in before
            if e.price is not None and e.category_id == event.category_id is not None
        ]
        assert found[place, at["item seen"]] == len(same)
        assert found[place, at["events in 10 s"]] == len(near)
        if same:
            age = math.log1p((event.at_ms - same[-1].at_ms) / 1000)
            assert math.isclose(found[place, at["item age"]], age, abs_tol=1e-5)
        relative = float(found[place, at["price by category"]])
        if event.price is None or not prices:
            assert math.isnan(relative)
        else:
            expected = math.log1p(event.price) - sum(prices) / len(prices)
            assert math.isclose(relative, expected, abs_tol=2e-3)  # prices are kept as float16
        kinds = [e.type for e in events[: place + 1]]
        share = kinds.count("click") / len(kinds)
        assert math.isclose(found[place, at["share of click"]], share, abs_tol=1e-6)


def test_the_first_event_of_a_window_has_no_past(shop: Schema) -> None:
    _, held = window(shop, seed=5, count=3)
    first = dict(
        zip([n.name for n in numbers(shop)], describe(shop, held)[0, 0].tolist(), strict=True)
    )
    assert math.isnan(first["gap"])
    assert math.isnan(first["item age"])
    assert first["item seen"] == first["events in 1 h"] == first["events before"] == 0


def test_facts_of_an_event_are_the_same_read_from_a_longer_window(shop: Schema) -> None:
    events, held = window(shop, seed=6, count=40)
    longer = describe(shop, held)
    names = fact_names(shop)
    for place in (0, 7, 23):
        part = Columns(*(column[:, : place + 1] for column in held))
        line, at = torch.tensor([0]), torch.tensor([place])
        own = facts(shop, part, describe(shop, part), line, at)
        assert own.shape == (1, len(names))
        torch.testing.assert_close(own, facts(shop, held, longer, line, at), equal_nan=True)
        told = dict(zip(names, own[0].tolist(), strict=True))
        assert told["type"] == shop.type_names.index(events[place].type) + 1
        items = [event.item_id for event in events[: place + 1]]
        again = 3 if items[-2:-1] == items[-1:] else 2 if items[-1] in items[:-1] else 1
        assert told["item relation"] == again


@pytest.mark.parametrize("name", ["shop", "shop-context"])
def test_torch_compile_traces_what_is_derived_in_one_piece(name: str) -> None:
    schema = schemas.load(name)
    _, held = window(schema, seed=1, count=10)
    compiled = torch.compile(describe, backend="eager", fullgraph=True)
    torch.testing.assert_close(
        compiled(schema, held), describe(schema, held), rtol=0, atol=0, equal_nan=True
    )
