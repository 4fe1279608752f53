"""Rows as Redis keeps them are the rows."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.schema import load
from stream_app.edges.narrow_rows import FRAME, NarrowRows


@pytest.mark.parametrize("name", ["shop", "shop-context", "finance", "wiki"])
@given(st.lists(st.integers(0, 6), max_size=8), st.integers(0, 2**32 - 1))
def test_rows_come_back_as_they_were(name: str, counts: list[int], seed: int) -> None:
    """Of logs that lie one after another, each behind its marks."""
    rng = np.random.default_rng(seed)
    row = load(name).row
    form = NarrowRows(row)
    rows = np.frombuffer(rng.bytes(sum(counts) * row.itemsize), row).copy()
    rows["at_ms"] = rng.integers(-(2**47), 2**47, len(rows))
    rows["spare"] = b""
    order = rng.permutation(len(rows))
    narrow, marks = form.narrowed(rows, order)
    assert len(narrow) == len(rows) * form.size

    joined, at = rng.bytes(form.size), 0
    first, marks_at = [], []
    for count in counts:
        marks_at.append(len(joined))
        joined += marks[2 * at : 2 * (at + count)].ljust(form.size, b"?")
        first.append(len(joined) // form.size - 1)
        joined += narrow[at * form.size : (at + count) * form.size]
        at += count
    found = form.widened(
        joined + FRAME, *(np.array(x, np.int64) for x in (first, counts, marks_at))
    )
    places = [f + n for f, count in zip(first, counts, strict=True) for n in range(count)]
    assert found[places].tobytes() == rows[order].tobytes()


def test_a_full_window_of_the_shop_is_of_35_bytes_a_row() -> None:
    assert NarrowRows(load("shop").row).size == 35
