"""Rows as Redis keeps them: without the bytes that are empty, or that stand beside them anyway.

    wide    at_ms (8)  id (8)                seq (8)  fields, type  spare
    narrow  at_ms (6)  id from its third (6) seq (8)  fields, type
    mark                its first two (2)

Milliseconds of eight thousand years fit six bytes. With a full window of the shop's rows that is
the next smaller size of Redis' allocator. Rows are turned column by column, many at once.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from stream_app.core.window import Ints, Rows

_SAVED: Final = 4  # bytes that a wide row has more before seq
_SHORTER: Final = 2  # of at_ms
FRAME: Final = bytes(8)  # behind joined rows, as the last is read with what a wide one has more


class NarrowRows:
    """Turns rows of the type `wide` into such of `size` bytes, and back."""

    def __init__(self, wide: np.dtype[np.void]) -> None:
        self.wide = wide
        spare = wide["spare"].itemsize if "spare" in (wide.names or ()) else 0
        self.size = wide.itemsize - _SAVED - spare
        self._mended = np.dtype(
            {
                "names": ["at_ms", "mark", "spare"],
                "formats": ["<i8", "<u2", f"({spare},)u1"],
                "offsets": [0, 8, wide.itemsize - spare],
                "itemsize": wide.itemsize,
            }
        )

    def narrowed(self, rows: Rows, order: Ints) -> tuple[bytes, bytes]:
        """The rows in this order, one after another, and their marks."""
        opaque = np.ascontiguousarray(rows).view(f"V{self.wide.itemsize}")
        held = opaque.take(order).view(np.uint8).reshape(len(rows), self.wide.itemsize)
        narrow = np.empty((len(rows), self.size), np.uint8)
        narrow[:, :6] = held[:, :6]
        narrow[:, 6:] = held[:, 10 : 10 + self.size - 6]
        return narrow.tobytes(), held[:, 8:10].tobytes()

    def widened(self, joined: bytes, first: Ints, slots: Ints, marks: Ints) -> Rows:
        """All but the first of the narrow rows in `joined`, which ends with FRAME. `slots` of them
        from each `first` on have marks, two bytes each from the byte `marks` on; others may be
        anything.
        """
        count = len(joined) // self.size - 1
        step = (self.size,)
        opaque, before = f"V{self.wide.itemsize}", self.size - _SAVED
        rows = np.ndarray((count,), opaque, joined, before, step).copy()  # from seq on in place
        mended = rows.view(self._mended)
        times = np.ndarray((count,), "<i8", joined, self.size - _SHORTER, step)
        mended["at_ms"] = times >> 8 * _SHORTER
        mended["spare"] = 0
        column = np.zeros(count, "<u2")  # the marks, each as far down as its row
        for many in np.unique(slots[slots > 0]).tolist():  # few, as the script chooses them
            of, block = np.flatnonzero(slots == many), f"V{2 * many}"  # of a log at once
            source = np.ndarray((len(joined) - 2 * many + 1,), block, joined, strides=(1,))
            target = np.ndarray((2 * (count - many) + 1,), block, column, strides=(1,))
            target[2 * first[of]] = source[marks[of]]
        mended["mark"] = column
        return rows.view(self.wide)
