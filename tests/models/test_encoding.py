from __future__ import annotations

import math

import numpy as np
import pytest

from models import schema as schemas
from models.encoding import Hashes, SchemaEncoder
from models.schema import Schema
from stream_app.core.event import Event


def event(**fields: object) -> Event:
    known = {"user_id": "u1", "type": "click", "at_ms": 5, "event_id": "e1"} | fields
    return Event(**known)  # type: ignore[arg-type]


def test_rows_are_the_same_on_every_machine(shop: Schema) -> None:
    row = SchemaEncoder(shop).encode(
        [
            event(
                item_id="i1", category_id="c1", query="red shoes", price=9.5, position=3, quantity=2
            )
        ]
    )[0]
    assert row["at_ms"] == 5
    assert row["id"] == 0x1F7E24023B50EAEF
    assert (row["item"], row["category"], row["query"]) == (536372286, 3383318018, 8582)
    assert row["price"] == np.float16(math.log1p(9.5))
    assert (row["position"], row["quantity"], row["type"], row["seq"]) == (3, 2, 3, 0)


def test_a_shop_row_takes_40_bytes(shop: Schema) -> None:
    assert shop.row.itemsize == 40


def test_what_is_missing_has_its_own_value(shop: Schema) -> None:
    row = SchemaEncoder(shop).encode([event()])[0]
    assert (row["item"], row["query"], row["position"], row["quantity"]) == (0, 0, 255, 255)
    assert np.isnan(row["price"])


def test_large_numbers_saturate_and_are_not_missing(shop: Schema) -> None:
    row = SchemaEncoder(shop).encode([event(position=10**9, quantity=255, price=1e308)])[0]
    assert (row["position"], row["quantity"]) == (254, 254)
    assert np.isfinite(row["price"])


def test_no_events_give_no_rows(shop: Schema) -> None:
    assert len(SchemaEncoder(shop).encode([])) == 0


def test_no_text_hashes_to_missing_and_a_full_cache_forgets() -> None:
    hashes = Hashes(16)
    first = {text: hashes[text] for text in map(str, range(70_000))}
    assert min(first.values()) == 1
    assert hashes[None] == 0
    assert {text: Hashes(16)[text] for text in ("1", "69999")} == {
        text: first[text] for text in ("1", "69999")
    }


def test_attributes_are_read_as_the_field_wants_them() -> None:
    finance = schemas.load("finance")
    sent = [
        {"country": "NO", "balance": -20.0},
        {"country": 47.0, "balance": "12.5"},
        {"balance": "x"},
    ]
    rows = SchemaEncoder(finance).encode([event(type="login", attributes=a) for a in [*sent, None]])
    assert rows["country"].tolist()[2:] == [0, 0]
    assert (rows["country"][:2] > 0).all()
    expected = np.array([-math.log1p(20), math.log1p(12.5), np.nan, np.nan], np.float16)
    np.testing.assert_array_equal(rows["balance"], expected)


@pytest.mark.parametrize("name", ["shop", "finance", "smart-home", "wiki"])
def test_every_shipped_schema_encodes_each_of_its_types(name: str) -> None:
    schema = schemas.load(name)
    rows = SchemaEncoder(schema).encode([event(type=kind) for kind in schema.type_names])
    assert rows["type"].tolist() == list(range(1, len(schema.types) + 1))
